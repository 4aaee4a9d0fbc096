// What a call used of providers and trunks, and what that cost: line by line, as it was settled when the call ended.
import { For, Show } from 'solid-js'
import { clock, money } from '../format'
import { Notice, Panel } from '../ui/parts'

export type Line = { name: string; micros: number | null } & (
  | { kind: 'recognizer'; audio_ms: number }
  | { kind: 'voice'; characters: number }
  | { kind: 'model'; answers: number; answers_unknown: number; tokens_in: number; tokens_cached: number; tokens_out: number }
  | { kind: 'trunk'; leg: number; up_ms: number; before_ms?: number; billed_s?: number }
)
export type Cost = { currency?: string; micros: number | null; is_partial: boolean; lines: Line[] }

const KINDS = { recognizer: 'Recogniser', voice: 'Voice', model: 'Model', trunk: 'Trunk' }

/** How much of it was used, in words. */
export function used(line: Line): string {
  switch (line.kind) {
    case 'recognizer': return `${clock(line.audio_ms)} of sound`
    case 'voice': return `${line.characters.toLocaleString()} characters`
    case 'model': {
      const cached = line.tokens_cached ? `, ${line.tokens_cached.toLocaleString()} of them cached` : ''
      const unknown = line.answers_unknown ? `; of ${line.answers_unknown.toLocaleString()} of ${line.answers.toLocaleString()} answers it is not known` : ''
      return `${line.tokens_in.toLocaleString()} tokens in${cached}, ${line.tokens_out.toLocaleString()} out${unknown}`
    }
    case 'trunk': {
      const before = line.before_ms == null ? '' : `, after ${clock(line.before_ms)} in another call`
      return `${clock(line.up_ms)} on leg ${line.leg}${before}${line.billed_s == null ? '' : `, charged as ${clock(line.billed_s * 1_000)}`}`
    }
  }
}

export function CostPanel(props: { cost?: Cost | null }) {
  return (
    <Show when={props.cost}>{(cost) => (
      <Panel title="Cost" flush>
        <table class="table" aria-label="What the call used and cost">
          <thead><tr><th scope="col">What</th><th scope="col">Used</th><th scope="col" class="right">Cost</th></tr></thead>
          <tbody>
            <For each={cost().lines}>{(line) => (
              <tr><td>{KINDS[line.kind]} <span class="small muted">{line.name}</span></td><td>{used(line)}</td><td class="right">{line.micros == null ? 'not priced' : money(line.micros, cost().currency)}</td></tr>
            )}</For>
            <tr><th scope="row" colspan="2">All that is priced</th><td class="right"><b>{money(cost().micros, cost().currency)}</b></td></tr>
          </tbody>
        </table>
        <Show when={cost().is_partial && cost().micros != null}><div class="body"><Notice tone="warn">It cost more than that: something has no price, or it is not known how much of it was used.</Notice></div></Show>
      </Panel>
    )}</Show>
  )
}
