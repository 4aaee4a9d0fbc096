// Who takes calls and who waits for them: what one says of oneself, and the lists of the live page, kept up to date by events.
import { createEffect, createSignal, For, on, onCleanup, Show } from 'solid-js'
import { createStore, reconcile } from 'solid-js/store'
import { api, take, type Schemas } from './api/client'
import { connection, onEvent } from './live'
import { clock, time } from './format'
import { can, who } from './session'
import { act, Panel, Tag, type Tone } from './ui/parts'

type Operator = Schemas['OperatorPresence']
type Queue = Schemas['QueueState'] & { read_at: number }

const [people, setPeople] = createStore<Record<string, Operator>>({})
const [queues, setQueues] = createStore<Record<string, Queue>>({})
export { people, queues }

/** Reads both lists, and keeps them as events say, for as long as whoever calls this is shown. */
export function watchPresence() {
  const read = async () => {
    if (!can('/presence')) return
    const [there, waiting] = await Promise.all([take(api.GET('/api/v1/presence')), take(api.GET('/api/v1/queues'))]).catch(() => [null, null])
    if (there) setPeople(reconcile(Object.fromEntries(there.items.map((person) => [person.user, person]))))
    if (waiting) setQueues(reconcile(Object.fromEntries(waiting.items.map((queue) => [queue.name, { ...queue, read_at: Date.now() }]))))
  }
  createEffect(on(connection, (now) => { if (now === 'open') void read() }))
  onCleanup(onEvent((event) => {
    if (event.type === 'gap') void read()
    if (event.type === 'operator.presence') setPeople((event.data as Operator).user, reconcile(event.data as Operator))
    if (event.type === 'queue.changed') {
      const changed = event.data as Schemas['QueueState']
      if (queues[changed.name]) setQueues(changed.name, { ...changed, read_at: Date.now() })
      else void read()
    }
  }))
}

const STATES: Record<Operator['state'], { text: string; tone: Tone }> = {
  available: { text: 'Available', tone: 'good' },
  busy: { text: 'In a call', tone: 'info' },
  away: { text: 'Away', tone: 'warn' },
  offline: { text: 'Offline', tone: '' },
}

/** Whether one takes calls, to be switched. */
export function OwnPresence() {
  const [busy, setBusy] = createSignal(false)
  const own = () => people[who()?.user.id ?? '']
  const set = (state: 'available' | 'away') => act(async () => {
    setBusy(true)
    try {
      const now = await take(api.PUT('/api/v1/me/presence', { body: { state } }))
      setPeople(now.user, now)
    } finally { setBusy(false) }
  })
  return (
    <Show when={own()}>{(me) => (
      <label class="own-presence">
        <span class="hidden-text">Do you take calls?</span>
        <span class="dot" data-state={me().away ? 'away' : me().state} aria-hidden="true" />
        <select value={me().away ? 'away' : 'available'} disabled={busy()} onChange={(event) => set(event.currentTarget.value as 'available' | 'away')}>
          <option value="available">{me().state === 'busy' ? 'In a call' : 'Available'}</option>
          <option value="away">Away</option>
        </select>
      </label>
    )}</Show>
  )
}

/** Who is there, and who waits. */
export function Attendance(props: { now: number }) {
  const there = () => Object.values(people).sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || a.display.localeCompare(b.display))
  const waiting = () => Object.values(queues).sort((a, b) => b.waiting - a.waiting || a.name.localeCompare(b.name))
  const wait = (queue: Queue) => (queue.waiting ? clock(queue.longest_wait_s * 1_000 + Math.max(0, props.now - queue.read_at)) : '–')
  return (
    <div class="attendance">
      <Show when={waiting().length}>
        <Panel title="Queues" flush>
          <table class="table" aria-label="Queues"><thead><tr><th>Queue</th><th class="right">Waiting</th><th class="right">Longest</th><th class="right">Ringing</th></tr></thead>
            <tbody><For each={waiting()}>{(queue) => (
              <tr><td>{queue.name}</td><td class="right num">{queue.waiting}</td><td class="right num">{wait(queue)}</td><td class="right num">{queue.ringing}</td></tr>
            )}</For></tbody></table>
        </Panel>
      </Show>
      <Show when={there().length > 1}>
        <Panel title="Operators" flush>
          <ul class="people"><For each={there()}>{(person) => (
            <li>
              <span class="cut">{person.display}</span>
              <span class="small muted">{person.since ? `since ${time(person.since)}` : ''}</span>
              <Tag tone={STATES[person.state].tone}>{STATES[person.state].text}</Tag>
            </li>
          )}</For></ul>
        </Panel>
      </Show>
    </div>
  )
}

const ORDER: Operator['state'][] = ['available', 'busy', 'away', 'offline']
