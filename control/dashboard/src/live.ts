// What happens on the server, as it does: one WebSocket for the page, begun anew where it broke off, and what it tells kept by call.
import { createSignal } from 'solid-js'
import { createStore, produce, reconcile } from 'solid-js/store'
import { api, ask, take, type LiveCall } from './api/client'
import { toolSays, type Tool, type TurnRecord } from './call/turns'

export type Event = { id: number; at: string; type: string; call: string; data: Record<string, unknown> }

/** One line of a talk that goes on. */
export type Line = { who: 'caller' | 'agent' | 'note'; text: string; at_ms?: number; partial?: boolean; turn?: TurnRecord }

/** Lines kept of one call; of a longer talk the record has all. */
const LINES = 400
/** A connection that broke is tried again after so long, then twice as long, up to the second. */
const AGAIN_MS = [500, 15_000] as const

const [calls, setCalls] = createStore<Record<string, LiveCall>>({})
const [talks, setTalks] = createStore<Record<string, Line[]>>({})
const [connection, setConnection] = createSignal<'closed' | 'open'>('closed')
const [ended, setEnded] = createStore<Record<string, { reason: string; class: string }>>({})
export { calls, talks, connection, ended }

let socket: WebSocket | null = null
let last = 0
let wait: number = AGAIN_MS[0]
let timer = 0

/** Watches until `close`. What is still kept of the calls in progress comes first. */
export function watch(): () => void {
  let stopped = false
  const open = () => {
    const url = new URL(`/api/v1/events?after=${last}`, location.origin)
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
    socket = new WebSocket(url)
    socket.onopen = () => { wait = AGAIN_MS[0]; setConnection('open'); void read() }
    socket.onmessage = ({ data }) => take_in(JSON.parse(String(data)) as Event)
    socket.onclose = () => {
      setConnection('closed')
      if (stopped) return
      // Whether it is for want of a session: who is logged in no more is shown the way in.
      void ask('GET', '/api/v1/session').catch(() => {})
      timer = window.setTimeout(open, wait)
      wait = Math.min(wait * 2, AGAIN_MS[1])
    }
  }
  open()
  return () => {
    stopped = true
    clearTimeout(timer)
    socket?.close()
    last = 0
    setCalls(reconcile({}))
    setTalks(reconcile({}))
    setEnded(reconcile({}))
  }
}

/** Reads the list of calls: at the beginning, and where events were lost. */
async function read() {
  const { items } = await take(api.GET('/api/v1/calls')).catch(() => ({ items: null }))
  if (items) setCalls(reconcile(Object.fromEntries(items.map((call) => [call.call, call]))))
}

const listeners = new Set<(event: Event) => void>()
/** Is told of each event until `stop`. */
export function onEvent(listener: (event: Event) => void): () => void {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

function take_in(event: Event) {
  if (event.type === 'gap') return void read()
  last = Math.max(last, event.id)
  switch (event.type) {
    case 'call.started':
    case 'call.changed':
      setCalls(event.call, event.data as unknown as LiveCall)
      break
    case 'call.ended':
      setCalls(produce((all) => { delete all[event.call] }))
      setEnded(event.call, event.data as { reason: string; class: string })
      forget()
      break
    case 'operator.presence':
    case 'queue.changed':
      break
    default:
      setTalks(produce((all) => tell(all[event.call] ??= [], event)))
  }
  listeners.forEach((listener) => listener(event))
}

/** Ended calls are kept for a page that still shows one, and no longer. */
function forget() {
  const over = Object.keys(ended)
  if (over.length <= 50) return
  const old = over.slice(0, over.length - 50)
  setEnded(produce((all) => old.forEach((call) => delete all[call])))
  setTalks(produce((all) => old.forEach((call) => delete all[call])))
}

/** Adds to a talk what an event tells. */
export function tell(lines: Line[], { type, data }: Pick<Event, 'type' | 'data'>) {
  const text = String(data.text ?? '')
  const open = lines.findLast((line) => line.partial)
  const note = (text: string) => lines.push({ who: 'note', text })
  switch (type) {
    case 'transcript.partial':
      if (open?.who === 'caller') open.text = text
      else if (text) lines.push({ who: 'caller', text, partial: true })
      break
    case 'agent.says': {
      const saying = lines.findLast((line) => line.partial && line.who === 'agent')
      if (saying) saying.text = `${saying.text} ${text}`
      else lines.push({ who: 'agent', text, at_ms: Number(data.at_ms), partial: true })
      break
    }
    case 'turn': {
      const turn = data as unknown as TurnRecord
      const line = { who: turn.who, text: turn.text, at_ms: turn.started_ms, turn }
      // Where it was told while it was said: what was told of it meanwhile stands below.
      const at = lines.findLastIndex((line) => line.partial && line.who === turn.who)
      if (!turn.text && !turn.tools?.length) {
        if (at >= 0) lines.splice(at, 1)
      } else if (at < 0) lines.push(line)
      else lines.splice(at, 1, line)
      break
    }
    case 'tool': {
      // What came of it is known after its turn.
      const { turn: index, place, tool } = data as unknown as { turn: number; place: number; tool: Tool }
      const line = lines.findLast((line) => line.turn?.index === index)
      if (line?.turn?.tools) line.turn = { ...line.turn, tools: line.turn.tools.map((known, at) => (at === place ? tool : known)) }
      else note(toolSays(tool))
      break
    }
    case 'conversation.started':
      // Who has the caller from the start stands above.
      if (Number(data.conversation) > 0) note(`The caller is handed over to ${data.agent}.`)
      break
    case 'interrupted': note('The caller cut the agent off.'); break
    case 'held': note(data.on ? 'The caller put the call on hold: the agent waits.' : 'The caller is back.'); break
    case 'provider.failed': note(`${data.part} ${data.provider} failed: ${data.reason}`); break
    case 'tone': note(`Tone heard: ${String(data.tone).replaceAll('_', ' ')}`); break
    case 'note': case 'call.note': if (text) note(`Note to the agent: ${text}`); break
  }
  if (lines.length > LINES) lines.splice(0, lines.length - LINES)
}
