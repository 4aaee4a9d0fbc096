// How a call sounded: packets and scores of each leg, and where the record has it, over time.
import { For, Show } from 'solid-js'
import { fixed, mosTone, ms, percent } from '../format'
import { Tag } from '../ui/parts'
import { LineChart } from '../ui/chart'

export type Media = {
  packets_in: number; packets_out: number; lost: number; late: number; reordered: number; duplicates: number
  jitter_ms: number; rtt_ms?: number | null; mos_in?: number | null; mos_out?: number | null
  timeline?: { at_ms: number; mos?: number | null; loss?: number | null; jitter_ms?: number | null }[]
}
export type Leg = { leg: number; label: string; uri: string; codec: string; srtp?: string; transport?: string; media?: Media | null }

export function Quality(props: { legs: Leg[] }) {
  const heard = () => props.legs.filter((leg) => leg.media)
  return (
    <Show when={heard().length} fallback={<p class="muted">No sound was exchanged.</p>}>
      <div class="scroll">
        <table class="table" aria-label="Quality of each leg">
          <thead><tr>
            <th scope="col">Leg</th><th scope="col" class="right">MOS in</th><th scope="col" class="right">MOS out</th><th scope="col" class="right">Loss</th>
            <th scope="col" class="right">Jitter</th><th scope="col" class="right">Round trip</th><th scope="col" class="right">Packets in / out</th><th scope="col">Codec</th>
          </tr></thead>
          <tbody><For each={heard()}>{(leg) => {
            const media = leg.media!
            return (
              <tr>
                <td>{leg.label}</td>
                <td class="right"><Mos value={media.mos_in} /></td><td class="right"><Mos value={media.mos_out} /></td>
                <td class="right">{percent(media.lost, media.lost + media.packets_in)}</td>
                <td class="right">{ms(media.jitter_ms)}</td><td class="right">{ms(media.rtt_ms)}</td>
                <td class="right">{media.packets_in.toLocaleString()} / {media.packets_out.toLocaleString()}</td>
                <td class="nowrap">{leg.codec}{leg.srtp && leg.srtp !== 'none' ? `, ${leg.srtp.toUpperCase()}` : ''}</td>
              </tr>
            )
          }}</For></tbody>
        </table>
      </div>
      <For each={heard()}>{(leg) => (
        <Show when={(leg.media!.timeline?.length ?? 0) > 1}>
          <LineChart title={`MOS of ${leg.label} over time`} from={1} to={4.5} digits={1}
            points={leg.media!.timeline!.filter((one) => one.mos != null).map((one) => ({ x: one.at_ms, y: one.mos! }))} label={(at) => `${Math.round(at / 1_000)} s`} />
        </Show>
      )}</For>
    </Show>
  )
}

const Mos = (props: { value?: number | null }) => <Show when={props.value != null} fallback="–"><Tag tone={mosTone(props.value)}>{fixed(props.value, 1)}</Tag></Show>
