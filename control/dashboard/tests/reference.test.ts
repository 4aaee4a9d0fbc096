import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { curl, fits, groups, mayBeNull, properties, sample, shapes, words, type Document, type Kind, type Operation } from '../src/api/reference'

const document = JSON.parse(readFileSync('openapi.json', 'utf8')) as Document
const all = groups(document).flatMap((group) => group.operations)
const operation = (id: string): Operation => all.find((one) => one.operationId === id)!

test('every operation of the document stands there once, below what it is about', () => {
  const count = Object.values(document.paths).flatMap((item) => Object.keys(item)).length
  expect(all.length).toBe(count)
  expect(new Set(all.map((one) => one.operationId)).size).toBe(count)
  expect(groups(document).map((group) => group.name)).not.toContain('others')
})

test('words are looked for in path, name and text, all of them', () => {
  const found = (text: string) => all.filter((one) => fits(one, text)).map((one) => one.operationId)
  expect(found('calls:write POST call somebody')).toContain('startCall')
  expect(found('get /api/v1/call-records ended')).toContain('listRecords')
  expect(found('listRecords nonsense')).toEqual([])
})

test('what a value is stands there in words', () => {
  const user = { $ref: '#/components/schemas/User' }
  const said: [Kind, string][] = [
    [{ type: 'string', format: 'uuid' }, 'text (uuid)'],
    [{ type: 'integer', format: 'int64', minimum: 1, maximum: 200 }, 'integer (from 1 to 200)'],
    [{ type: ['string', 'null'] }, 'text'],
    [{ type: 'array', items: user }, 'list of User'],
    [{ type: 'object', additionalProperties: { type: 'string' } }, 'names to text'],
    [{ oneOf: [user, { type: 'null' }] }, 'User'],
    [{ enum: ['a', 'b'] }, 'a | b'],
  ]
  for (const [kind, text] of said) expect(words(document, kind)).toBe(text)
  expect(words(document, { $ref: '#/components/schemas/Moment' })).toContain('text')
  expect(mayBeNull({ oneOf: [{ $ref: '#/components/schemas/User' }, { type: 'null' }] })).toBe(true)
})

test('properties are found through references, lists and parts', () => {
  const detail = properties(document, { type: 'array', items: { $ref: '#/components/schemas/AgentDetail' } }).map((one) => one.name)
  expect(detail).toEqual(expect.arrayContaining(['name', 'definition']))
})

test('no schema is without an end, nothing and nobody is left out, and samples have what has to be there', () => {
  const walk = (kind: Kind, depth: number): number => (depth > 8 ? 0
    : 1 + [...properties(document, kind).map((one) => one.kind), ...shapes(document, kind)].reduce((sum, one) => sum + walk(one, depth + 1), 0))
  for (const one of all) {
    for (const { schema } of Object.values(one.requestBody?.content ?? {})) {
      expect(walk(schema!, 0)).toBeGreaterThan(0)
      const made = sample(document, schema!)
      for (const { name, required } of properties(document, schema!)) if (required) expect(made, one.operationId).toHaveProperty([name])
    }
    for (const part of one.parameters ?? []) expect(words(document, part.schema ?? {}), `${one.operationId} ${part.name}`).not.toBe('')
  }
})

test('a request is written as a command that a shell takes', () => {
  const told = curl(document, operation('startCall'), 'https://omnivox.example.net')
  expect(told).toMatch(/^curl -X POST https:\/\/omnivox\.example\.net\/api\/v1\/calls \\\n/)
  expect(told).toContain('-H "Authorization: Bearer $KEY"')
  expect(told).toContain("-H 'Idempotency-Key: TEXT'")
  expect(JSON.parse(told.split("-d '")[1]!.split("'")[0]!)).toHaveProperty('to')
  expect(curl(document, operation('showAgent'), '')).toContain('curl /api/v1/agents/NAME ')
  expect(curl(document, operation('logIn'), '')).not.toContain('Bearer')
  expect(curl(document, operation('startWebCall'), '')).toContain('--data-binary @FILE')
  const quoted = { ...operation('startCall'), requestBody: { content: { 'application/json': { schema: { example: { to: "d'Arc" } } } } } }
  expect(curl(document, quoted, '')).toContain(String.raw`d'\''Arc`)
})
