// How a call sounded: packets and scores of each leg.
import { For, Show } from 'solid-js'
import { fixed, mosTone, ms, percent } from '../format'
import { Tag } from '../ui/parts'

export type Media = {
  packets_in: number; packets_out: number; lost: number; late: number; reordered: number; duplicates: number
  jitter_ms: number; rtt_ms?: number | null; mos_in?: number | null; mos_out?: number | null
}
export type Leg = { leg: number; label: string; uri: string; codec: string; srtp?: string; transport?: string; media?: Media | null }

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
