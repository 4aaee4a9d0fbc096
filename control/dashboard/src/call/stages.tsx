// What each answer of the agent's waited for: recogniser, brain, voice and tools on one scale for the whole call.
import { For, Show } from 'solid-js'
import { ms } from '../format'
import { STAGES, waits, type TurnRecord } from './turns'

export function StageTimeline(props: { turns: TurnRecord[] }) {
  const answers = () => props.turns.filter((turn) => turn.gap_ms != null && turn.stages)
  const most = () => Math.max(200, ...answers().map((turn) => waits(turn.stages!).reduce((a, b) => a + b, 0)))
  const said = (turn: TurnRecord) => waits(turn.stages!).map((wait, stage) => (wait >= 1 ? `${STAGES[stage]!.name} ${ms(wait)}` : '')).filter(Boolean).join(', ') || 'nothing'
  return (
    <Show when={answers().length} fallback={<p class="muted">No answer to a caller's turn yet.</p>}>
      <div class="stages" role="list" aria-label="What each answer waited for">
        <For each={answers()}>{(turn) => (
          <div class="line" role="listitem" aria-label={`Turn ${turn.index}: ${ms(turn.gap_ms)}, of it ${said(turn)}`}>
            <span class="muted num" aria-hidden="true">#{turn.index}</span>
            <Bar parts={waits(turn.stages!)} most={most()} title={`#${turn.index} ${turn.text}\n${said(turn)}`} />
            <span class="num" aria-hidden="true">{ms(turn.gap_ms)}</span>
            <Show when={turn.tools?.length}>
              <span /><span class="small muted">Tools: {turn.tools!.map((tool) => `${tool.name} ${ms(tool.took_ms)}${tool.failed ? ` (failed: ${tool.failed})` : ''}`).join(', ')}</span><span />
            </Show>
          </div>
        )}</For>
      </div>
      <div class="legend" aria-hidden="true"><For each={STAGES}>{(stage, at) => <span title={stage.says}><i class={`key-${at() + 1}`} />{stage.name}</span>}</For></div>
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
