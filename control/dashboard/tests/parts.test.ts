import { expect, test } from 'vitest'
import { clock, money, party, words } from '../src/format'
import { used } from '../src/call/cost'
import { waits } from '../src/call/turns'
import { score } from '../src/call/web-call'
import { reach } from '../src/call/wave'
import { digitsOf, ticks } from '../src/ui/chart'
import { isSecret, titleOf } from '../src/ui/schema-form'
import { agreement } from '../src/pages/record'

test('times, addresses and names are written for people', () => {
  expect([clock(0), clock(65_400), clock(3_723_000), clock(-5)]).toEqual(['0:00', '1:05', '1:02:03', '0:00'])
  expect(['sip:+4930123@carrier.example;user=phone', 'tel:+4930123', 'sip:carrier.example', 'sip:a%20b@x', ''].map(party))
    .toEqual(['+4930123', '+4930123', 'carrier.example', 'a b', 'unknown'])
  expect(words('caller_hung_up')).toBe('Caller hung up')
})

test('an answer waits for each stage as far as that was late, and what ran ahead costs nothing', () => {
  const stages = { speech_end_ms: 1000, endpoint_ms: 1300, recogniser_ms: 1250, brain_ms: 1400, voice_ms: 1450, sent_ms: 1470 }
  expect(waits(stages)).toEqual([300, 0, 100, 50, 20])
  expect(waits(stages).reduce((a, b) => a + b)).toBe(470)
  expect(waits({ speech_end_ms: 1000, sent_ms: 1200 })).toEqual([0, 0, 0, 0, 200])
  expect(waits({})).toEqual([0, 0, 0, 0, 0])
})

test('opinion scores fall with delay and loss, within 1 and 4.5', () => {
  expect(score(20, 2, 0)).toBeGreaterThan(4.3)
  expect(score(20, 2, 5)).toBeLessThan(score(20, 2, 1))
  expect(score(800, 2, 0)).toBeLessThan(3.7)
  expect(score(5_000, 500, 100)).toBe(1)
})

test('a waveform has the greatest reach of each slice', () => {
  expect([...reach(Float32Array.from([0, 0.5, -1, 0.25]), 2)]).toEqual([0.5, 1])
  expect(reach(new Float32Array(3), 10)).toHaveLength(3)
  expect(reach(new Float32Array(0), 10)).toHaveLength(0)
})

test('turns stand where the recording has their sound', () => {
  const agent = new Float32Array(100)
  agent[20] = 0.4
  const peaks = { caller: new Float32Array(100), agent, duration_s: 10 }
  const turn = { index: 0, who: 'agent' as const, text: 'Hello', started_ms: 1_500, ended_ms: 3_000 }
  expect(agreement([turn], peaks)).toBe(500)
  expect(agreement([{ ...turn, started_ms: 9_000 }], peaks)).toBe(0)
  expect(agreement([], peaks)).toBe(0)
})

test('axes have round numbers that reach over what is shown', () => {
  expect(ticks(7)).toEqual([0, 2, 4, 6, 8])
  expect(ticks(0)).toEqual([0, 1])
  expect(ticks(1_000).at(-1)).toBeGreaterThanOrEqual(1_000)
  expect([ticks(7), ticks(0.6), ticks(0.03), [0, 2.5, 5]].map(digitsOf)).toEqual([0, 1, 2, 1])
})

test('keys of a form are titled for people, and which are secrets is known of lists too', () => {
  expect(['ring_s', 'tls_names', 'srtp', 'max_calls', 'ha1'].map(titleOf)).toEqual(['Ring (seconds)', 'TLS names', 'SRTP', 'Max calls', 'HA1'])
  expect([{ type: 'string', format: 'password' }, { type: 'array', items: { type: 'string', format: 'password' } }, { type: 'string' }].map(isSecret)).toEqual([true, true, false])
})

test('money is told to the millionth where it is little, and what was used in words', () => {
  const figures = (text: string) => text.replace(/[^\d.,]/g, '')
  expect([money(211_000, 'EUR'), money(1_234_567, 'EUR'), money(180, 'USD'), money(0, 'EUR')].map(figures)).toEqual(['0.211', '1.235', '0.00018', '0.00'])
  expect([money(null, 'EUR'), figures(money(2_500_000))]).toEqual(['–', '2.50'])
  expect(used({ kind: 'trunk', name: 'carrier', leg: 1, up_ms: 5_000, billed_s: 60, micros: 1 })).toBe('0:05 on leg 1, charged as 1:00')
  expect(used({ kind: 'trunk', name: 'carrier', leg: 32_768, up_ms: 64_000, before_ms: 10_000, billed_s: 18, micros: 1 })).toBe('1:04 on leg 32768, after 0:10 in another call, charged as 0:18')
  expect(used({ kind: 'model', name: 'm', answers: 3, answers_unknown: 1, tokens_in: 1_200, tokens_cached: 64, tokens_out: 7, micros: null }))
    .toBe(`${(1_200).toLocaleString()} tokens in, 64 of them cached, 7 out; of 1 of 3 answers it is not known`)
})
