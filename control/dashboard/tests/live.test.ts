import { createStore, produce } from 'solid-js/store'
import { expect, test } from 'vitest'
import { askedAfter, toolSays } from '../src/call/turns'
import { tell, type Line } from '../src/live'

const turn = (who: string, text: string) => ({ type: 'turn', data: { index: 0, who, text, started_ms: 100, ended_ms: 900 } })

test('what is understood so far is replaced by what was said, and what the agent says by what was heard of it', () => {
  const lines: Line[] = []
  tell(lines, { type: 'transcript.partial', data: { text: 'what are' } })
  tell(lines, { type: 'transcript.partial', data: { text: 'what are your hours' } })
  expect(lines).toMatchObject([{ who: 'caller', text: 'what are your hours', partial: true }])
  tell(lines, turn('caller', 'what are your opening hours'))
  tell(lines, { type: 'agent.says', data: { text: 'We are open.', at_ms: 1000 } })
  tell(lines, { type: 'agent.says', data: { text: 'From nine to five.', at_ms: 2000 } })
  expect(lines.at(-1)).toMatchObject({ who: 'agent', text: 'We are open. From nine to five.', partial: true })
  tell(lines, { type: 'transcript.partial', data: { text: 'thanks' } })
  tell(lines, { type: 'interrupted', data: {} })
  tell(lines, turn('agent', 'We are open.'))
  expect(lines.map((line) => [line.who, line.text])).toEqual([
    ['caller', 'what are your opening hours'], ['agent', 'We are open.'], ['caller', 'thanks'], ['note', 'The caller cut the agent off.'],
  ])
})

test('a turn without words takes away what was told of it, and nothing else', () => {
  // As `live.ts` has it: within a store, lines are proxies.
  const [talks, set] = createStore<Record<string, Line[]>>({})
  const told = (event: Parameters<typeof tell>[1]) => set(produce((all) => tell(all.c ??= [], event)))
  const texts = () => talks.c!.map((line) => line.text)
  told(turn('agent', 'Hello.'))
  told(turn('caller', ''))
  expect(texts()).toEqual(['Hello.'])
  told({ type: 'transcript.partial', data: { text: 'hm' } })
  told({ type: 'note', data: { text: 'go on' } })
  told(turn('caller', ''))
  expect(texts()).toEqual(['Hello.', 'Note to the agent: go on'])
  told({ type: 'transcript.partial', data: { text: 'my ord' } })
  told(turn('caller', 'my order'))
  expect(texts()).toEqual(['Hello.', 'Note to the agent: go on', 'my order'])
})

test('who holds the call is told', () => {
  const lines: Line[] = []
  tell(lines, { type: 'held', data: { on: true, at_ms: 1000 } })
  tell(lines, { type: 'held', data: { on: false, at_ms: 9000 } })
  expect(lines.map((line) => line.text)).toEqual(['The caller put the call on hold: the agent waits.', 'The caller is back.'])
})

test('of a talk without end the latest lines are kept', () => {
  const lines: Line[] = []
  for (let at = 0; at < 450; at++) tell(lines, turn('caller', `word ${at}`))
  expect(lines).toHaveLength(400)
  expect(lines[0]!.text).toBe('word 50')
})

test('what came of a tool is told with its turn, also where that is known later only', () => {
  const lines: Line[] = []
  const tool = { name: 'transfer_call', by: 'model', arguments: '{}', asked_ms: 400, started_ms: 900, outcome: 'open' }
  tell(lines, { type: 'turn', data: { ...turn('agent', 'One moment.').data, index: 3, stages: { speech_end_ms: 150 }, tools: [tool] } })
  expect(toolSays(lines[0]!.turn!.tools![0]!)).toBe('transfer_call by the model: under way')
  expect(askedAfter(lines[0]!.turn!, lines[0]!.turn!.tools![0]!)).toBe(250)
  tell(lines, { type: 'tool', data: { turn: 3, place: 0, tool: { ...tool, outcome: 'failed', took_ms: 2000, why: 'the person is busy' } } })
  expect(lines).toHaveLength(1)
  expect(toolSays(lines[0]!.turn!.tools![0]!)).toBe(`transfer_call by the model: failed in ${(2000).toLocaleString()} ms (the person is busy)`)
  // A turn that was nothing but a tool is shown too.
  tell(lines, { type: 'turn', data: { ...turn('agent', '').data, index: 4, tools: [{ ...tool, name: 'open_door', outcome: 'refused', why: 'it was not offered' }] } })
  expect(lines).toHaveLength(2)
})
