// A turn as the server tells of it, and what an answer waited for.
import { ms } from '../format'

export type Stages = Partial<Record<'speech_end_ms' | 'endpoint_ms' | 'recogniser_ms' | 'brain_ms' | 'voice_ms' | 'sent_ms', number | null>>

/** A conversation with an agent: several in a call where one handed the caller over to another. */
export type Conversation = { conversation: number; agent: string; version?: number | null; began_at?: string; ended_at?: string; outcome?: string }

export type TurnRecord = {
  index: number
  conversation?: number
  who: 'caller' | 'agent'
  text: string
  started_ms: number
  ended_ms: number
  gap_ms?: number | null
  stages?: Stages
  interrupted?: boolean
  matched?: string | null
  confidence?: number | null
  by?: 'speech' | 'keys' | 'unprompted'
  ahead?: boolean
  tools?: Tool[]
}

/** What the agent asked for besides talking. */
export type Tool = {
  name: string
  by: 'model' | 'script'
  arguments: string
  asked_ms: number
  started_ms?: number
  took_ms?: number
  outcome: 'open' | 'done' | 'refused' | 'failed'
  why?: string
}

export const STAGES = [
  { name: 'Certainty', of: 'endpoint_ms', says: 'until it was certain that the caller had finished' },
  { name: 'Recogniser', of: 'recogniser_ms', says: 'until the recogniser had its last word' },
  { name: 'Brain', of: 'brain_ms', says: 'until the brain had its first text' },
  { name: 'Voice', of: 'voice_ms', says: 'until the voice had its first sound' },
  { name: 'Line', of: 'sent_ms', says: 'until the first sound was sent' },
] as const

/** What an answer waited for, in ms: each stage as far as it was late; their sum is the gap. What ran ahead cost nothing. */
export function waits(stages: Stages): number[] {
  let before = stages.speech_end_ms
  return STAGES.map(({ of }) => {
    const now = stages[of]
    if (before == null || now == null) return 0
    const waited = Math.max(0, now - before)
    before = Math.max(before, now)
    return waited
  })
}

/** A tool in words: who asked for it, and what came of it. */
export function toolSays(tool: Tool): string {
  const came = { open: 'under way', done: 'done', refused: 'refused', failed: 'failed' }[tool.outcome]
  const took = tool.took_ms != null && tool.took_ms >= 1 ? ` in ${ms(tool.took_ms)}` : ''
  return `${tool.name} by the ${tool.by}: ${came}${took}${tool.why ? ` (${tool.why})` : ''}`
}

/** When a tool was asked for, in ms after the caller's last sound; nothing of a turn that answers nobody. */
export function askedAfter(turn: TurnRecord, tool: Tool): number | undefined {
  const end = turn.stages?.speech_end_ms
  return end == null ? undefined : Math.max(0, tool.asked_ms - end)
}
