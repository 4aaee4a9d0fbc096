// Calling somebody: their phone rings, and whoever answers is connected with an agent or a place; or from this page, by WebRTC.
import { createResource, createSignal, Show } from 'solid-js'
import { all, api, take } from '../api/client'
import { can, is, who } from '../session'
import { Button, Modal, Notice, Text, useWork } from '../ui/parts'
import { begin } from './web-call'

/** The agents' names, where the server tells them. */
export const useAgents = () =>
  createResource(() => can('/agents') && is('supervisor'), () => all<{ name: string }>('/api/v1/agents').then((agents) => agents.map((agent) => agent.name)).catch(() => []))[0]

export function NewCall(props: { close: () => void; begun: (call: string) => void }) {
  const own = () => who()?.user.device ?? ''
  const [to, setTo] = createSignal(is('supervisor') ? '' : own())
  const [target, setTarget] = createSignal('')
  const [number, setNumber] = createSignal('agent')
  const agents = useAgents()
  const work = useWork()
  // Pressed twice, the call is made once.
  const key = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('')
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    void work.run(async () => {
      const started = await take(api.POST('/api/v1/calls', { params: { header: { 'Idempotency-Key': key } }, body: { to: to(), connect_with: target() } }))
      props.close()
      props.begun(started.call)
    })
  }
  const fromHere = (event: SubmitEvent) => {
    event.preventDefault()
    props.close()
    void begin({ connect_with: number() }, `Call with ${number()}`)
  }
  return (
    <Modal title="Call" close={props.close}>
      <div class="form">
        <Show when={can('/web-calls') && is('supervisor')}>
          <form class="form" onSubmit={fromHere}>
            <h3>From this page</h3>
            <div class="row">
              <Text label="With" required list="targets" value={number()} on={setNumber} hint="An agent, a conference (room-NAME)" />
            </div>
            <div class="buttons"><Button kind="primary" icon="mic" type="submit">Call from here</Button></div>
          </form>
        </Show>
        <form class="form" onSubmit={submit}>
          <Show when={can('/web-calls')}><h3>A phone</h3></Show>
          <div class="row">
            <Text label="Call" required value={to()} on={setTo} wrong={work.wrong('to')} hint={is('supervisor') ? 'A device, a number, a SIP address' : 'Your own device'} />
            <Text label="Connect with" required list="targets" value={target()} on={setTarget} wrong={work.wrong('connect_with')} hint="An agent, a conference (room-NAME)" />
          </div>
          <Notice>{work.rest('to', 'connect_with')}</Notice>
          <div class="buttons"><Button onClick={props.close}>Cancel</Button><Button kind="primary" icon="phone" type="submit" disabled={work.busy()}>Call</Button></div>
        </form>
        <datalist id="targets">{(agents() ?? []).map((name) => <option value={name} />)}<option value="echo" /></datalist>
      </div>
    </Modal>
  )
}
