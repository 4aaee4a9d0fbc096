// What is said: live, and beside the recording, in step with it.
import { createEffect, For, on, Show } from 'solid-js'
import type { Line } from '../live'
import { clock, ms } from '../format'
import { toolSays, type Conversation, type TurnRecord } from './turns'

const NAMES = { caller: 'Caller', agent: 'Agent', note: '' }

/** A talk that goes on; what comes is shown and read out. */
export function LiveTalk(props: { lines: Line[] }) {
  let list!: HTMLOListElement
  // Whoever has scrolled up to read is left there.
  createEffect(on(() => [props.lines.length, props.lines.at(-1)?.text], () => {
    if (list.scrollHeight - list.scrollTop - list.clientHeight < 160) list.scrollTop = list.scrollHeight
  }))
  return (
    <ol class="talk live" ref={list} aria-live="polite" aria-relevant="additions" aria-label="Transcript" tabindex="0">
      <For each={props.lines}>{(line) => (
        <li class={line.who} classList={{ partial: line.partial }}>
          <span class="at">{line.at_ms == null ? '' : clock(line.at_ms)}</span>
          <span class="said">
            <Show when={NAMES[line.who]}>{(name) => <b>{name()}</b>}</Show>{line.text}
            <Show when={line.turn}>{(turn) => <Meta turn={turn()} />}</Show>
          </span>
        </li>
      )}</For>
    </ol>
  )
}

/** A talk that is over; the turn at `now_ms` stands out, and each leads to its place in the recording. */
export function Transcript(props: { turns: TurnRecord[]; conversations?: Conversation[]; now_ms?: number; seek?: (at_ms: number) => void }) {
  const isNow = (turn: TurnRecord) => props.now_ms != null && props.now_ms >= turn.started_ms && props.now_ms < Math.max(turn.ended_ms, turn.started_ms + 300)
  // The agent that a turn is the first of, where another had the caller before.
  const handedTo = (turn: TurnRecord, at: number) => {
    const now = turn.conversation ?? 0
    return now === (props.turns[at - 1]?.conversation ?? 0) ? undefined : props.conversations?.find((one) => one.conversation === now)?.agent
  }
  return (
    <ol class="talk" aria-label="Transcript">
      <For each={props.turns}>{(turn, at) => (<>
        <Show when={handedTo(turn, at())}>{(agent) => <li class="note"><span class="at" /><span class="said">The caller is handed over to {agent()}.</span></li>}</Show>
        <li class={turn.who} classList={{ now: isNow(turn) }} aria-current={isNow(turn) ? 'true' : undefined}>
          <span class="at">{clock(turn.started_ms)}</span>
          <Show when={props.seek} fallback={<span class="said"><b>{NAMES[turn.who]}</b>{turn.text || '…'}<Meta turn={turn} /></span>}>
            {(seek) => (
              <button type="button" class="said" onClick={() => seek()(turn.started_ms)}>
                <b>{NAMES[turn.who]}</b>{turn.text || '…'}<Meta turn={turn} />
              </button>
            )}
          </Show>
        </li>
      </>)}</For>
    </ol>
  )
}

function Meta(props: { turn: TurnRecord }) {
  const parts = () => [
    props.turn.who === 'caller' && props.turn.by === 'keys' && 'by keys',
    props.turn.gap_ms != null && `after ${ms(props.turn.gap_ms)}`,
    props.turn.interrupted && 'cut off',
    props.turn.ahead && 'made ready ahead',
    ...(props.turn.tools ?? []).map(toolSays),
    props.turn.confidence != null && props.turn.confidence < 0.6 && `heard with ${Math.round(props.turn.confidence * 100)} % confidence`,
  ].filter(Boolean) as string[]
  return <Show when={parts().length}><span class="meta"><For each={parts()}>{(part) => <span>{part}</span>}</For></span></Show>
}
