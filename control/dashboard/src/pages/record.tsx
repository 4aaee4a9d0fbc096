// An ended call: heard again in step with what was said, and everything that was measured.
import { useNavigate, useParams } from '@solidjs/router'
import { createEffect, createResource, createSignal, For, Show } from 'solid-js'
import { api, ask, Fault, take, type CallRecord } from '../api/client'
import { can, is } from '../session'
import { clock, fixed, mosTone, ms, party, tone, when, words } from '../format'
import { act, Button, Confirm, Empty, Head, Modal, Notice, Panel, Secret, Tag, toast } from '../ui/parts'
import { Player, usePlayer } from '../call/player'
import { Quality, QualityOverTime, type Leg, type Media, type OverTime } from '../call/quality'
import { StageTimeline } from '../call/stages'
import { Transcript } from '../call/talk'
import { Ladder } from '../call/sip'
import { isCallable, NewCall } from '../call/new-call'
import type { Conversation, TurnRecord } from '../call/turns'
import type { Peaks } from '../call/wave'
import { Outcome } from '../call/outcome'
import { CostPanel, type Cost } from '../call/cost'

type Noted = {
  from: string; to: string; peer: string; transport: string; codec: string; srtp?: string; trunk?: string; device?: string
  end: { class: string; reason: string; detail?: string }
  agent?: { recognizer: string; brain: string; voice: string; turns: TurnRecord[]; failures: string[] } | null
  conversations?: Conversation[]
  media?: Media | null; legs?: Leg[]; quality?: OverTime[]; cost?: Cost | null; tones?: { leg: number; at: string; tone: string }[]
  queues?: { queue: string; waited_ms: number; outcome: string; answered_by?: string }[]
}

/** Longer recordings are read only where somebody asks. */
const READ_AT_ONCE_MS = 15 * 60_000

export default function Record() {
  const params = useParams<{ id: string }>()
  const read = async (id: string) => {
    // A call that has only just ended takes a moment until it is read from the journal.
    for (let tries = 0; ; tries++) {
      try {
        return await take(api.GET('/api/v1/call-records/{id}', { params: { path: { id } } }))
      } catch (thrown) {
        if (tries === 8 || Fault.of(thrown).status !== 404) throw thrown
        await new Promise((done) => setTimeout(done, 400))
      }
    }
  }
  const [record, { refetch }] = createResource(() => params.id, (id) => read(id).catch((thrown) => Fault.of(thrown)))
  return (
    <Show when={record()} keyed fallback={<p class="empty">Loading…</p>}>
      {(one) => {
        return one instanceof Fault
          ? <div class="page"><Head title="Record" /><div class="panel"><Empty title="There is no such record.">{one.message}</Empty></div></div>
          : (one.record as { erased?: boolean }).erased
            ? <div class="page"><Head title="Record" /><div class="panel"><Empty title="Whoever this call was with is forgotten.">It began {when(one.started_at)} and ended: {words(one.reason)}. Nothing else is kept of it.</Empty></div></div>
            : <Shown call={one} noted={one.record as unknown as Noted} again={refetch} />
      }}
    </Show>
  )
}

function Shown(props: { call: CallRecord; noted: Noted; again: () => void }) {
  const player = usePlayer(props.call.call)
  const [erasing, setErasing] = createSignal(false)
  const [calling, setCalling] = createSignal(false)
  const navigate = useNavigate()
  const [linked, setLinked] = createSignal('')
  const turns = () => props.noted.agent?.turns ?? []
  createEffect(() => {
    if (props.call.recorded && props.call.duration_ms <= READ_AT_ONCE_MS && player.state() === 'none' && !player.fault()) void player.load()
  })
  const offset_ms = () => agreement(turns(), player.peaks())
  const legs = (): Leg[] => [
    { leg: 0, label: 'caller', uri: props.noted.from, codec: props.noted.codec, srtp: props.noted.srtp, media: props.noted.media },
    ...(props.noted.legs ?? []),
  ]
  const names = () => (props.noted.agent ? ['Caller', 'Agent'] : ['Caller', 'Called']) as [string, string]
  const other = () => (props.call.direction === 'outbound' ? props.call.callee : props.call.caller)
  // Who has no number is known by the whole address.
  const known = () => (/^\+?\d+$/.test(other()) ? other() : (props.call.direction === 'outbound' ? props.noted.to : props.noted.from) || other())
  const link = () => act(async () => {
    const made = await take(api.POST('/api/v1/call-records/{id}/recording-link', { params: { path: { id: props.call.call } } }))
    setLinked(new URL(made.path, location.origin).href)
  })
  return (
    <div class="page">
      <Head title={`${props.call.caller || 'unknown'} → ${props.call.callee}`} sub={<>{when(props.call.started_at)} · {words(props.call.direction)} · {props.call.target}</>}>
        <Show when={isCallable(other())}><Button icon="phone" onClick={() => setCalling(true)}>Call {other()}</Button></Show>
        <Show when={props.call.recorded}><Button icon="link" onClick={link}>Link to the recording</Button></Show>
        <Show when={can('/people/erasure') && is('administrator')}><Button kind="danger" icon="erase" onClick={() => setErasing(true)}>Erase this person</Button></Show>
      </Head>
      <dl class="figures">
        <div><dt>Length</dt><dd>{clock(props.call.duration_ms)}</dd></div>
        <div><dt>Ended</dt><dd><Tag tone={tone(props.call.class)}>{words(props.call.reason)}</Tag></dd></div>
        <div><dt>Answer gap, median</dt><dd>{ms(props.call.gap_ms)}</dd></div>
        <div><dt>MOS in</dt><dd>{props.call.mos_in == null ? '–' : <>{fixed(props.call.mos_in, 2)} <Tag tone={mosTone(props.call.mos_in)}>{{ good: 'good', warn: 'fair', bad: 'poor' }[mosTone(props.call.mos_in)]}</Tag></>}</dd></div>
      </dl>
      <Show when={props.call.recorded}><Panel title="Recording"><Player player={player} names={names()} /></Panel></Show>
      <div class="columns">
        <div>
          <Panel title="Transcript">
            <Show when={turns().length} fallback={<p class="muted">Nothing was said with an agent.</p>}>
              <Transcript turns={turns()} conversations={props.noted.conversations} now_ms={player.peaks() ? player.now() * 1_000 - offset_ms() : undefined}
                seek={player.peaks() ? (at_ms) => player.seek(Math.max(0, at_ms + offset_ms()) / 1_000) : undefined} />
            </Show>
          </Panel>
          <Panel title="Quality" flush><div class="body"><Quality legs={legs()} /><QualityOverTime quality={props.noted.quality ?? []} legs={legs()} /></div></Panel>
          <Ladder call={props.call.call} />
        </div>
        <div>
          <Outcome call={props.call.call} number={other()} />
          <CostPanel cost={props.noted.cost} />
          <Show when={turns().length}><Panel title="What each answer waited for"><StageTimeline turns={turns()} /></Panel></Show>
          <Panel title="The call">
            <dl class="facts">
              <dt>From</dt><dd>{party(props.noted.from)}<br /><span class="small muted">{props.noted.from}</span></dd>
              <dt>To</dt><dd>{party(props.noted.to)}<br /><span class="small muted">{props.noted.to}</span></dd>
              <dt>Answered</dt><dd>{when(props.call.answered_at)}</dd>
              <dt>Over</dt><dd>{when(props.call.ended_at)}</dd>
              <Show when={props.noted.end.detail}><dt>Because</dt><dd>{props.noted.end.detail}</dd></Show>
              <Show when={props.noted.trunk}><dt>Trunk</dt><dd>{props.noted.trunk}</dd></Show>
              <Show when={props.noted.device}><dt>Device</dt><dd>{props.noted.device}</dd></Show>
              <dt>Peer</dt><dd>{props.noted.peer} by {props.noted.transport}</dd>
              <Show when={props.noted.conversations?.length}>
                <dt>Agents</dt><dd><For each={props.noted.conversations}>{(one, at) => <>{at() ? ', ' : ''}{one.agent}{one.version ? ` (version ${one.version})` : ''}</>}</For></dd>
              </Show>
              <Show when={props.noted.agent}>{(agent) => <><dt>Recogniser</dt><dd>{agent().recognizer}</dd><dt>Brain</dt><dd>{agent().brain}</dd><dt>Voice</dt><dd>{agent().voice}</dd></>}</Show>
              <dt>Id</dt><dd><code>{props.call.call}</code></dd>
            </dl>
            <Show when={props.noted.agent?.failures.length}>
              <Notice tone="warn"><For each={props.noted.agent!.failures}>{(failure) => <>{failure} </>}</For></Notice>
            </Show>
          </Panel>
          <Show when={props.noted.queues?.length}>
            <Panel title="Waited">
              <ul class="form"><For each={props.noted.queues}>{(wait) => <li><b>{wait.queue}</b> {clock(wait.waited_ms)}<br /><span class="small muted">{words(wait.outcome)}{wait.answered_by ? ` by ${wait.answered_by}` : ''}</span></li>}</For></ul>
            </Panel>
          </Show>
          <Show when={props.noted.legs?.length}>
            <Panel title="Who was called">
              <ul class="form"><For each={props.noted.legs}>{(leg) => <li><b>{leg.label}</b><br /><span class="small muted">{leg.uri}</span></li>}</For></ul>
            </Panel>
          </Show>
          <Show when={props.noted.tones?.length}>
            <Panel title="Tones heard"><ul><For each={props.noted.tones}>{(tone) => <li>{words(tone.tone)} <span class="muted small">on leg {tone.leg}</span></li>}</For></ul></Panel>
          </Show>
        </div>
      </div>
      <Show when={calling()}><NewCall to={other()} close={() => setCalling(false)} begun={(call) => navigate(`/live/${call}`)} /></Show>
      <Show when={linked()}><Modal title="Link to the recording" close={() => setLinked('')}><div class="form"><p>Whoever has it may play the recording for an hour.</p><Secret value={linked()} label="The link" /></div></Modal></Show>
      <Show when={erasing()}>
        <Confirm title={`Erase ${other()}`} action="Erase for good" close={() => setErasing(false)}
          do={async () => { await ask('POST', '/api/v1/people/erasure', { body: { number: known() } }); toast(`What was kept of ${other()} is erased.`); props.again() }}>
          <p>Records, transcripts, recordings and contacts of <b>{other()}</b> are erased. This cannot be taken back.</p>
        </Confirm>
      </Show>
    </div>
  )
}

/** What is to be added to a turn's time to stand on the recording's, in ms: the agent's first sound is where its first turn is. */
export function agreement(turns: TurnRecord[], peaks: Peaks | null): number {
  const first = turns.find((turn) => turn.who === 'agent' && turn.text)
  if (!peaks || !first) return 0
  const at = peaks.agent.findIndex((reach) => reach > 0.02)
  if (at < 0) return 0
  const offset = (1_000 * at * peaks.duration_s) / peaks.agent.length - first.started_ms
  return Math.abs(offset) < 2_000 ? offset : 0
}
