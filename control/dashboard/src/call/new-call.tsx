// Calling somebody: from one's own phone, which rings first; from this page, by WebRTC; or having somebody called who is connected with an agent or
// a place.
import { createResource, createSignal, Match, Show, Switch } from 'solid-js'
import { all, api, take } from '../api/client'
import { can, is, who } from '../session'
import { Button, Modal, Notice, Select, Text, useWork } from '../ui/parts'
import { begin } from './web-call'

/** The agents' names, where the server tells them. */
export const useAgents = () =>
  createResource(() => can('/agents') && is('supervisor'), () => all<{ name: string }>('/api/v1/agents').then((agents) => agents.map((agent) => agent.name)).catch(() => []))[0]

/** The devices' names, where the server tells them. */
const useDevices = () =>
  createResource(() => can('/devices') && is('supervisor'), () => all<{ name?: string; user?: string }>('/api/v1/devices').then((all) => all.map((one) => one.name ?? one.user ?? '')).catch(() => []))[0]

/** Whom a call may be begun with who stands in a record. */
export const isCallable = (name: string) => name !== '' && name !== 'unknown' && name !== 'anonymous' && !name.includes('@')

type Way = 'phone' | 'page' | 'other'

export function NewCall(props: { close: () => void; begun: (call: string) => void; to?: string }) {
  const own = () => who()?.user.device ?? ''
  const [way, setWay] = createSignal<Way>('phone')
  const [to, setTo] = createSignal(props.to ?? '')
  const [from, setFrom] = createSignal(own())
  const [target, setTarget] = createSignal('')
  const [number, setNumber] = createSignal('agent')
  const [agents, devices] = [useAgents(), useDevices()]
  const work = useWork()
  const ways = () => [
    ['phone', own() ? 'From my phone, which rings first' : 'From a phone, which rings first'] as const,
    ...(can('/web-calls') ? [['page', 'From this page'] as const] : []),
    ['other', 'Call somebody and connect them with an agent'] as const,
  ]
  // Pressed twice, the call is made once.
  const key = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('')
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    if (way() === 'page') {
      props.close()
      void begin({ connect_with: number() }, `Call with ${number()}`)
      return
    }
    void work.run(async () => {
      const body = way() === 'phone' ? { to: to(), from: from() || undefined } : { to: to(), connect_with: target() }
      const started = await take(api.POST('/api/v1/calls', { params: { header: { 'Idempotency-Key': `${key}${way()}` } }, body }))
      props.close()
      props.begun(started.call)
    })
  }
  return (
    <Modal title="Call" close={props.close}>
      <form class="form" onSubmit={submit}>
        <Show when={is('supervisor')}>
          <Select label="How" value={way()} on={(value) => setWay(value as Way)} options={ways()} />
        </Show>
        <Switch>
          <Match when={way() === 'phone'}>
            <Show when={own() || is('supervisor')} fallback={<Notice tone="info">Your account has no device: an administrator sets it with your user.</Notice>}>
              <div class="row">
                <Text label="Call" required value={to()} on={setTo} wrong={work.wrong('to')} hint="A number, a device, an agent" />
                <Show when={is('supervisor')}><Text label="From the phone of" required list="devices-to-call-from" value={from()} on={setFrom} wrong={work.wrong('from')} hint="A device: it rings first" /></Show>
              </div>
              <p class="small muted">{own() && from() === own() ? 'Your phone rings' : `${from() || 'The phone'} rings`} and shows whom it will call. Once it is answered, they are called.</p>
            </Show>
          </Match>
          <Match when={way() === 'page'}>
            <Text label="With" required list="targets" value={number()} on={setNumber} hint="An agent, a conference (room-NAME)" />
          </Match>
          <Match when={way() === 'other'}>
            <div class="row">
              <Text label="Call" required value={to()} on={setTo} wrong={work.wrong('to')} hint="A device, a number, a SIP address" />
              <Text label="Connect with" required list="targets" value={target()} on={setTarget} wrong={work.wrong('connect_with')} hint="An agent, a conference (room-NAME)" />
            </div>
          </Match>
        </Switch>
        <Notice>{is('supervisor') && way() === 'phone' ? work.rest('to', 'from') : work.rest('to', 'connect_with')}</Notice>
        <div class="buttons">
          <Button onClick={props.close}>Cancel</Button>
          <Button kind="primary" icon={way() === 'page' ? 'mic' : 'phone'} type="submit" disabled={work.busy() || (!own() && !is('supervisor'))}>{{ phone: 'Call from the phone', page: 'Call from here', other: 'Call' }[way()]}</Button>
        </div>
        <datalist id="targets">{(agents() ?? []).map((name) => <option value={name} />)}<option value="echo" /></datalist>
        <datalist id="devices-to-call-from">{(devices() ?? []).map((name) => <option value={name} />)}</datalist>
      </form>
    </Modal>
  )
}
