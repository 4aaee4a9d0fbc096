// A call in progress: what is said as it is said, what each answer waits for, and everything that may be done with it.
import { A, useParams } from '@solidjs/router'
import { createResource, createSignal, Show } from 'solid-js'
import { api, ask, take, type LiveCall } from '../api/client'
import { can, is } from '../session'
import { calls, ended, talks, type Line } from '../live'
import { clock, party, when, words } from '../format'
import { act, Button, Check, Empty, Head, Modal, Notice, Panel, Select, Text, useNow, useWork } from '../ui/parts'
import { LiveTalk } from '../call/talk'
import { StageTimeline } from '../call/stages'
import { Ladder } from '../call/sip'
import { begin, end, webCall, type Way } from '../call/web-call'
import { LineChart } from '../ui/chart'
import { Connection } from '../frame'
import { State } from './wall'

type How = 'listen' | 'whisper' | 'join' | 'take_over'
const HOWS: readonly [How, string, string][] = [
  ['listen', 'Listen', 'You hear both and nobody hears you.'], ['whisper', 'Whisper', 'The operator alone hears you.'],
  ['join', 'Join', 'Everybody hears you.'], ['take_over', 'Take over', 'You speak with the caller, the agent leaves.'],
]

export default function Call() {
  const params = useParams<{ id: string }>()
  // One that the page has not been told of yet.
  const [asked] = createResource(() => params.id, (id) => take(api.GET('/api/v1/calls/{id}', { params: { path: { id } } })).catch(() => null))
  const call = () => calls[params.id] ?? (ended[params.id] ? null : asked())
  const lines = () => talks[params.id] ?? []
  return (
    <Show when={call()} fallback={<Show when={!asked.loading || ended[params.id]} fallback={<p class="empty">Loading…</p>}><Over id={params.id} lines={lines()} /></Show>}>
      {(call) => <Running call={call()} lines={lines()} />}
    </Show>
  )
}

function Over(props: { id: string; lines: Line[] }) {
  return (
    <div class="page">
      <Head title="This call is over" sub={ended[props.id] ? words(ended[props.id]!.reason) : undefined}><A class="button primary" href={`/records/${props.id}`}>Open its record</A></Head>
      <Show when={props.lines.length} fallback={<div class="panel"><Empty title="It is not in progress.">Its record says how it went.</Empty></div>}>
        <Panel title="Transcript"><LiveTalk lines={props.lines} /></Panel>
      </Show>
    </div>
  )
}

function Running(props: { call: LiveCall; lines: Line[] }) {
  const now = useNow()
  const path = () => `/api/v1/calls/${encodeURIComponent(props.call.call)}`
  const [asking, setAsking] = createSignal<'transfer' | 'say' | 'note' | 'dtmf' | null>(null)
  const [held, setHeld] = createSignal(false)
  const [paused, setPaused] = createSignal(false)
  const [muted, setMuted] = createSignal(false)
  const flip = (what: string, on: boolean, done: string, set: (on: boolean) => void) => act(async () => { await ask('PUT', `${path()}/${what}`, { body: { on } }); set(what === 'recording' ? !on : on) }, done)
  const turns = () => props.lines.flatMap((line) => line.turn ?? [])
  const isMine = () => webCall.call === props.call.call && webCall.phase === 'up'
  const name = () => `${party(props.call.from)} → ${party(props.call.to)}`
  const supervise = (how: How, title: string) => {
    if (can('/web-calls')) return void begin({ call: props.call.call, as: how } as Way, `${title}: ${name()}`)
    void act(() => take(api.POST('/api/v1/calls/{id}/supervision', { params: { path: { id: props.call.call } }, body: { mode: how as 'listen' } })), 'Your device rings.')
  }
  // By the phone on the desk only operators' calls may be supervised; from the page every call.
  const hows = () => HOWS.filter(([how]) => can('/web-calls') || (how !== 'take_over' && props.call.devices.length > 0))
  return (
    <div class="page">
      <Head title={name()} sub={<><State state={props.call.state} /> <span class="num">{clock(now() - Date.parse(props.call.answered_at ?? props.call.started_at))}</span> · {words(props.call.direction)} · {props.call.agent ?? props.call.target}</>}>
        <Connection />
        <Button kind="solid-danger" icon="hangup" onClick={() => act(() => ask('DELETE', path()), 'Hanging up.')}>End the call</Button>
      </Head>
      <div class="columns">
        <div>
          <Panel title="Transcript"><Show when={props.lines.length} fallback={<p class="muted">What is said appears here while it is said.</p>}><LiveTalk lines={props.lines} /></Show></Panel>
          <Panel title="What each answer waited for"><StageTimeline turns={turns()} /></Panel>
          <Ladder call={props.call.call} />
        </div>
        <div>
          <Show when={is('supervisor') && hows().length}>
            <Panel title="Take part">
              <div class="actions" role="group" aria-label="Take part">
                {hows().map(([how, title, says]) => <Button icon={how === 'listen' ? 'listen' : how === 'take_over' ? 'phone' : 'mic'} kind={how === 'take_over' ? 'primary' : undefined} title={says} onClick={() => supervise(how, title)}>{title}</Button>)}
                <Show when={isMine()}><Button kind="danger" onClick={() => end()}>Leave</Button></Show>
              </div>
              <Show when={isMine() && webCall.quality.length > 2}>
                <LineChart title="Quality of your connection, MOS" from={1} to={5} digits={1} height={110} points={webCall.quality.map((y, x) => ({ x, y }))} label={(x) => `${x} s`} />
              </Show>
            </Panel>
          </Show>
          <Panel title="Do">
            <div class="actions" role="group" aria-label="What may be done">
              <Button onClick={() => setAsking('transfer')}>Transfer</Button>
              <Show when={props.call.connected}><Button on={held()} onClick={() => flip('hold', !held(), held() ? 'Taken back.' : 'The caller hears music.', setHeld)}>Hold</Button></Show>
              <Button on={paused()} onClick={() => flip('recording', paused(), paused() ? 'Recording goes on.' : 'Recording pauses.', setPaused)}>Pause recording</Button>
              <Show when={can('/calls/{}/mute')}><Button on={muted()} onClick={() => flip('mute', !muted(), muted() ? 'Heard again.' : 'Muted.', setMuted)}>Mute</Button></Show>
              <Show when={can('/calls/{}/dtmf')}><Button onClick={() => setAsking('dtmf')}>Send keys</Button></Show>
              <Show when={can('/calls/{}/say')}><Button onClick={() => setAsking('say')}>Say</Button></Show>
              <Show when={can('/calls/{}/note')}><Button onClick={() => setAsking('note')}>Note to the agent</Button></Show>
            </div>
          </Panel>
          <Panel title="The call">
            <dl class="facts">
              <dt>From</dt><dd>{party(props.call.from)}<br /><span class="small muted">{props.call.from}</span></dd>
              <dt>To</dt><dd>{party(props.call.to)}<br /><span class="small muted">{props.call.to}</span></dd>
              <Show when={props.call.party}>{(who) => <><dt>Now with</dt><dd>{who()}</dd></>}</Show>
              <dt>Answered by</dt><dd>{props.call.target}</dd>
              <Show when={props.call.agent}><dt>With the agent</dt><dd>{props.call.agent}</dd></Show>
              <Show when={props.call.devices.length}><dt>Devices</dt><dd>{props.call.devices.join(', ')}</dd></Show>
              <dt>Began</dt><dd>{when(props.call.started_at)}</dd>
              <dt>Id</dt><dd><code>{props.call.call}</code></dd>
            </dl>
          </Panel>
        </div>
      </div>
      <Show when={asking()} keyed>
        {(what) => what === 'transfer' ? <Transfer path={path()} close={() => setAsking(null)} /> : <Ask what={what} path={path()} close={() => setAsking(null)} />}
      </Show>
    </div>
  )
}

function Transfer(props: { path: string; close: () => void }) {
  const [to, setTo] = createSignal('')
  const [kind, setKind] = createSignal('blind')
  const [summary, setSummary] = createSignal('')
  const [accept, setAccept] = createSignal(true)
  const work = useWork()
  const isWarm = () => kind() === 'warm'
  const shown = () => isWarm() ? ['to', 'summary'] : ['to']
  const submit = async (event: SubmitEvent) => {
    event.preventDefault()
    const body = { to: to(), kind: kind(), ...(isWarm() ? { summary: summary(), accept: accept() } : {}) }
    if (await work.run(() => ask('POST', `${props.path}/transfer`, { body }))) props.close()
  }
  return (
    <Modal title="Transfer the caller" close={props.close}>
      <form class="form" onSubmit={submit}>
        <Text label="To" hint="A device, an agent, a number, an address, room-NAME or park-SLOT" required value={to()} on={setTo} wrong={work.wrong('to')} />
        <Select label="How" value={kind()} on={setKind} options={[['blind', 'At once'], ['warm', 'Tell them first who calls']]} />
        <Show when={isWarm()}>
          <Text label="What they hear first" hint="Read to them while the caller hears music" value={summary()} on={setSummary} wrong={work.wrong('summary')} />
          <Check label="They take the call by pressing 1, or leave it by 2" value={accept()} on={setAccept} />
        </Show>
        <Notice>{work.rest(...shown())}</Notice>
        <div class="buttons"><Button onClick={props.close}>Cancel</Button><Button kind="primary" type="submit" disabled={work.busy()}>Transfer</Button></div>
      </form>
    </Modal>
  )
}

const ASKS = {
  say: { title: 'Have the agent say', field: 'text', label: 'Words', hint: 'Said to the caller as they stand', action: 'Say it' },
  note: { title: 'Note to the agent', field: 'text', label: 'Note', hint: 'The agent takes it into account; the caller does not hear it', action: 'Give it' },
  dtmf: { title: 'Send keys', field: 'digits', label: 'Keys', hint: '0 to 9, *, #', action: 'Send' },
} as const

function Ask(props: { what: keyof typeof ASKS; path: string; close: () => void }) {
  const asks = ASKS[props.what]
  const [value, setValue] = createSignal('')
  const work = useWork()
  const submit = async (event: SubmitEvent) => {
    event.preventDefault()
    if (await work.run(() => ask('POST', `${props.path}/${props.what}`, { body: { [asks.field]: value() } }))) props.close()
  }
  return (
    <Modal title={asks.title} close={props.close}>
      <form class="form" onSubmit={submit}>
        <Text label={asks.label} hint={asks.hint} required value={value()} on={setValue} wrong={work.wrong(asks.field)} />
        <Notice>{work.rest(asks.field)}</Notice>
        <div class="buttons"><Button onClick={props.close}>Cancel</Button><Button kind="primary" type="submit" disabled={work.busy()}>{asks.action}</Button></div>
      </form>
    </Modal>
  )
}
