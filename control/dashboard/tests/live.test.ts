import { expect, test } from 'vitest'
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
    ['caller', 'what are your opening hours'], ['caller', 'thanks'], ['note', 'The caller cut the agent off.'], ['agent', 'We are open.'],
  ])
})

test('of a talk without end the latest lines are kept', () => {
  const lines: Line[] = []
  for (let at = 0; at < 450; at++) tell(lines, turn('caller', `word ${at}`))
  expect(lines).toHaveLength(400)
  expect(lines[0]!.text).toBe('word 50')
})
