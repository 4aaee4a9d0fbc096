// The signalling of a call as a ladder, and as a capture for Wireshark.
import { createResource, Show } from 'solid-js'
import { Fault, send } from '../api/client'
import { can } from '../session'
import { Panel } from '../ui/parts'

export function Ladder(props: { call: string }) {
  const path = () => `/api/v1/calls/${encodeURIComponent(props.call)}/trace`
  const [ladder] = createResource(() => can('/calls/{}/trace') && path(), (path) => send('GET', path).then((answer) => answer.text()).catch((thrown) => Fault.of(thrown)))
  return (
    <Show when={can('/calls/{}/trace')}>
      <Panel title="SIP" tools={<Show when={typeof ladder() === 'string'}><a class="button tiny" href={`${path()}.pcap`} download={`${props.call}.pcap`}>Download pcap</a></Show>}>
        <Show when={ladder()} keyed>{(text) => {
          return typeof text === 'string'
            ? <pre class="ladder" tabindex="0" aria-label="Ladder of SIP messages">{text}</pre>
            : <p class="muted">{text.status === 404 ? 'The signalling of this call is no longer kept.' : text.message}</p>
        }}</Show>
      </Panel>
    </Show>
  )
}
