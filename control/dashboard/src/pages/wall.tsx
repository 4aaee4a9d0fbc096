// The calls in progress, each on a line: who, with whom, what was said last.
import { A, useNavigate } from '@solidjs/router'
import { createMemo, createSignal, For, Show } from 'solid-js'
import { api, take, type LiveCall } from '../api/client'
import { calls, talks } from '../live'
import { clock, party, words } from '../format'
import { act, Button, Empty, Head, Tag, Text, useNow } from '../ui/parts'
import { Connection } from '../frame'
import { NewCall } from '../call/new-call'
import { Attendance } from '../presence'

export function Wall() {
  const now = useNow()
  const [wanted, setWanted] = createSignal('')
  const [calling, setCalling] = createSignal(false)
  const navigate = useNavigate()
  const all = createMemo(() => Object.values(calls).sort((a, b) => a.started_at.localeCompare(b.started_at) || a.call.localeCompare(b.call)))
  const shown = createMemo(() => {
    const text = wanted().toLowerCase()
    return all().filter((call) => [call.from, call.to, call.target, call.agent ?? '', ...call.devices].some((part) => part.toLowerCase().includes(text)))
  })
  const count = (fits: (call: LiveCall) => boolean) => all().filter(fits).length
  const longest = () => all().reduce((most, call) => Math.max(most, call.answered_at ? now() - Date.parse(call.answered_at) : 0), 0)
  return (
    <div class="page">
      <Head title="Live calls" sub={<Connection />}><Button kind="primary" icon="phone" onClick={() => setCalling(true)}>Call</Button></Head>
      <dl class="figures">
        <div><dt>In progress</dt><dd>{all().length}</dd></div>
        <div><dt>Ringing</dt><dd>{count((call) => call.state === 'ringing')}</dd></div>
        <div><dt>With a person</dt><dd>{count((call) => call.state === 'up' && !call.queue && call.devices.length > 0)}</dd></div>
        <div><dt>Longest</dt><dd>{clock(longest())}</dd></div>
      </dl>
      <Show when={all().length > 5}>
        <div class="filters"><Text class="wide" label="Find" type="search" placeholder="Number, name, agent" value={wanted()} on={setWanted} /></div>
      </Show>
      <section class="panel" aria-label="Calls in progress">
        <Show when={shown().length} fallback={
          <Empty title={all().length ? 'No call fits.' : 'Nobody is on the phone.'}>{all().length ? '' : 'Calls appear here the moment they begin, with what is said in them.'}</Empty>
        }>
          <ul class="wall"><For each={shown()}>{(call) => <Line call={call} now={now()} />}</For></ul>
        </Show>
      </section>
      <Attendance now={now()} />
      <Show when={calling()}><NewCall close={() => setCalling(false)} begun={(call) => navigate(`/live/${call}`)} /></Show>
    </div>
  )
}

function Line(props: { call: LiveCall; now: number }) {
  const name = () => `${party(props.call.from)} to ${party(props.call.to)}`
  const waits = () => props.call.state === 'up' && props.call.queue
  const last = () => talks[props.call.call]?.findLast((line) => line.who !== 'note')
  const hangUp = () => act(() => take(api.DELETE('/api/v1/calls/{id}', { params: { path: { id: props.call.call } } })), 'Hanging up.')
  return (
    <li>
      <span class="state"><State state={waits() ? 'waiting' : props.call.state} /></span>
      <span class="who cut">
        <A href={`/live/${props.call.call}`}>{party(props.call.from)} → {party(props.call.to)}</A>
        <span class="small muted cut"><br />{words(props.call.direction)}, {props.call.agent ?? props.call.target}{props.call.devices.length ? `, ${props.call.devices.join(', ')}` : ''}</span>
      </span>
      <span class="said cut">
        <Show when={waits()}>{(queue) => <span class="muted">in the queue {queue().name}</span>}</Show>
        <Show when={!waits() && last()}>{(line) => <><b class={`said-by-${line().who}`}>{line().who === 'agent' ? 'Agent' : 'Caller'}</b> {line().text}</>}</Show>
      </span>
      <span class="clock num">{clock(props.now - Date.parse(props.call.answered_at ?? props.call.started_at))}</span>
      <span class="do"><Button tiny kind="quiet" icon="hangup" onClick={hangUp} aria-label={`Hang up ${name()}`} title="Hang up" /></span>
    </li>
  )
}

export const State = (props: { state: LiveCall['state'] | 'waiting' }) => (
  <span classList={{ ringing: props.state === 'ringing' }}>
    <Tag tone={{ ringing: 'warn', up: 'good', waiting: 'warn', ending: '' }[props.state]}><span class="pulse" />{{ ringing: 'Ringing', up: 'Talking', waiting: 'Waiting', ending: 'Ending' }[props.state]}</Tag>
  </span>
)
