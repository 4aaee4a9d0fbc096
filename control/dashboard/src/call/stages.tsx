// What each answer of the agent's waited for: recogniser, brain and voice on one scale for the whole call, and beneath them the tools that
// it asked for.
import { For, Show } from 'solid-js'
import { ms } from '../format'
import { askedAfter, STAGES, toolSays, waits, type Tool, type TurnRecord } from './turns'

export function StageTimeline(props: { turns: TurnRecord[] }) {
  const shown = () => props.turns.filter((turn) => (turn.gap_ms != null && turn.stages) || turn.tools?.length)
  const parts = (turn: TurnRecord) => waits(turn.stages ?? {})
  const most = () => Math.max(200, ...shown().map((turn) => parts(turn).reduce((a, b) => a + b, 0)))
  const said = (turn: TurnRecord) => parts(turn).map((wait, stage) => (wait >= 1 ? `${STAGES[stage]!.name} ${ms(wait)}` : '')).filter(Boolean).join(', ') || 'nothing'
  const label = (turn: TurnRecord) => [
    turn.gap_ms == null ? `Turn ${turn.index}, which answers nobody` : `Turn ${turn.index}: ${ms(turn.gap_ms)}, of it ${said(turn)}`,
    ...(turn.tools ?? []).map((tool) => `Tool ${toolSays(tool)}`),
  ].join('. ')
  return (
    <Show when={shown().length} fallback={<p class="muted">No answer to a caller's turn yet.</p>}>
      <div class="stages" role="list" aria-label="What each answer waited for">
        <For each={shown()}>{(turn) => (
          <div class="line" role="listitem" aria-label={label(turn)}>
            <span class="muted num" aria-hidden="true">#{turn.index}</span>
            <Bar parts={parts(turn)} most={most()} title={`#${turn.index} ${turn.text}\n${said(turn)}`} />
            <span class="num" aria-hidden="true">{turn.gap_ms == null ? '–' : ms(turn.gap_ms)}</span>
            <For each={turn.tools}>{(tool) => <Lane turn={turn} tool={tool} most={most()} />}</For>
          </div>
        )}</For>
      </div>
      <div class="legend" aria-hidden="true">
        <For each={STAGES}>{(stage, at) => <span title={stage.says}><i class={`key-${at() + 1}`} />{stage.name}</span>}</For>
        <span title="when the brain asked for a tool"><i class="key-accent" />Tool</span>
      </div>
    </Show>
  )
}

function Bar(props: { parts: number[]; most: number; title: string }) {
  const starts = () => props.parts.map((_, at) => props.parts.slice(0, at).reduce((a, b) => a + b, 0))
  return (
    <svg viewBox="0 0 1000 16" preserveAspectRatio="none" aria-hidden="true">
      <title>{props.title}</title>
      <For each={props.parts}>{(part, at) => <rect x={(1_000 * starts()[at()]!) / props.most} width={(1_000 * part) / props.most} y="1" height="14" class={`key-${at() + 1}`} />}</For>
    </svg>
  )
}

/** One tool: a mark where it was asked for, on the scale of the stages above; and what came of it. */
function Lane(props: { turn: TurnRecord; tool: Tool; most: number }) {
  const x = () => Math.min(990, (1_000 * (askedAfter(props.turn, props.tool) ?? 0)) / props.most)
  const came = () => (props.tool.outcome === 'done' ? 'key-accent' : props.tool.outcome === 'open' ? 'key-3' : 'key-bad')
  return (
    <>
      <span />
      <div class="tool" aria-hidden="true">
        <Show when={askedAfter(props.turn, props.tool) != null}>
          <svg viewBox="0 0 1000 8" preserveAspectRatio="none"><title>{`asked for at ${ms(askedAfter(props.turn, props.tool)!)}`}</title><rect x={x()} width="10" y="1" height="6" class={came()} /></svg>
        </Show>
        <span class="small muted" title={props.tool.arguments}>{toolSays(props.tool)}</span>
      </div>
      <span />
    </>
  )
}
