// How a call sounded: packets and scores of each leg.
import { createSignal, For, Show } from 'solid-js'
import { clock, fixed, mosTone, ms, percent } from '../format'
import { LineChart } from '../ui/chart'
import { Select, Tag } from '../ui/parts'

export type Media = {
  packets_in: number; packets_out: number; lost: number; late: number; reordered: number; duplicates: number
  jitter_ms: number; rtt_ms?: number | null; mos_in?: number | null; mos_out?: number | null
}
export type Leg = { leg: number; label: string; uri: string; codec: string; srtp?: string; transport?: string; media?: Media | null }

/** How a leg sounded in one span after another. */
export type OverTime = { leg: number; from_ms: number; every_ms: number; points: { loss_in?: number; jitter_ms?: number; mos_in?: number; loss_out?: number; mos_out?: number; rtt_ms?: number }[] }

/** Loss, jitter, score and round trip of one leg over the call, each drawn and said in words. */
export function QualityOverTime(props: { quality: OverTime[]; legs: Leg[] }) {
  const [shown, setShown] = createSignal(0)
  const one = () => props.quality[Math.min(shown(), props.quality.length - 1)]!
  const name = (quality: OverTime) => props.legs.find((leg) => leg.leg === quality.leg)?.label ?? (quality.leg === 0 ? 'caller' : `leg ${quality.leg}`)
  const line = (of: keyof OverTime['points'][number]) => one().points.map((point, at) => ({ x: one().from_ms + at * one().every_ms, y: point[of] ?? null }))
  const has = (...of: (keyof OverTime['points'][number])[]) => of.some((name) => one().points.some((point) => point[name] != null))
  return (
    <Show when={props.quality.some((quality) => quality.points.length > 1)}>
      <div class="over-time">
        <Show when={props.quality.length > 1}>
          <Select label="Leg" value={String(shown())} on={(at) => setShown(Number(at))} options={props.quality.map((quality, at) => [String(at), name(quality)] as const)} />
        </Show>
        <Show when={has('mos_in', 'mos_out')}><h3>Mean opinion score</h3><LineChart title={`Mean opinion score, ${name(one())}`} points={line('mos_in')} second={line('mos_out')} names={['Heard of them', 'Heard by them']} label={clock} from={1} to={5} digits={2} height={130} /></Show>
        <Show when={has('loss_in', 'loss_out')}><h3>Loss, percent</h3><LineChart title={`Packets lost, ${name(one())}`} points={line('loss_in')} second={line('loss_out')} names={['Heard of them', 'Heard by them']} label={clock} digits={2} unit="percent" height={110} /></Show>
        <Show when={has('jitter_ms', 'rtt_ms')}><h3>Jitter and round trip, ms</h3><LineChart title={`Jitter and round trip, ${name(one())}`} points={line('jitter_ms')} second={line('rtt_ms')} names={['Jitter', 'Round trip']} label={clock} digits={1} unit="ms" height={110} /></Show>
      </div>
    </Show>
  )
}

export function Quality(props: { legs: Leg[] }) {
  const heard = () => props.legs.filter((leg) => leg.media)
  return (
    <Show when={heard().length} fallback={<p class="muted">No sound was exchanged.</p>}>
      <div class="scroll" tabindex="0" role="region" aria-label="Quality of each leg">
        <table class="table dense">
          <thead><tr>
            <th scope="col">Leg</th><th scope="col" class="right">MOS in</th><th scope="col" class="right">MOS out</th><th scope="col" class="right">Loss</th>
            <th scope="col" class="right">Jitter</th><th scope="col" class="right">Round trip</th><th scope="col" class="right">Packets in, out</th>
          </tr></thead>
          <tbody><For each={heard()}>{(leg) => {
            const media = leg.media!
            return (
              <tr>
                <td>{leg.label}<br /><span class="small muted">{leg.codec}{leg.srtp && leg.srtp !== 'none' ? `, ${leg.srtp.toUpperCase()}` : ''}</span></td>
                <td class="right"><Mos value={media.mos_in} /></td><td class="right"><Mos value={media.mos_out} /></td>
                <td class="right">{percent(media.lost, media.lost + media.packets_in)}</td>
                <td class="right">{ms(media.jitter_ms)}</td><td class="right">{ms(media.rtt_ms)}</td>
                <td class="right">{media.packets_in.toLocaleString()}, {media.packets_out.toLocaleString()}</td>
              </tr>
            )
          }}</For></tbody>
        </table>
      </div>
    </Show>
  )
}

const Mos = (props: { value?: number | null }) => <Show when={props.value != null} fallback="–"><Tag tone={mosTone(props.value)}>{fixed(props.value, 1)}</Tag></Show>
