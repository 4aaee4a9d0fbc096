import { afterEach, expect, test, vi } from 'vitest'
import { all, ask, Fault, onSignedOut, setCsrf } from '../src/api/client'
import { resolve } from '../src/ui/schema-form'

const answers = (...answers: Response[]) => {
  const asked: Request[] = []
  vi.stubGlobal('fetch', async (request: Request) => { asked.push(request); return answers.shift()! })
  return asked
}
const json = (body: unknown, status = 200) => new Response(JSON.stringify(body), { status })
afterEach(() => { vi.unstubAllGlobals(); setCsrf(null); onSignedOut(() => {}) })

test('what changes something carries the token of this page, what reads does not', async () => {
  setCsrf('token')
  const asked = answers(json({}), json({}))
  await ask('GET', '/api/v1/calls')
  await ask('POST', '/api/v1/calls', { body: { to: 'a' } })
  expect(asked.map((request) => request.headers.get('X-CSRF-Token'))).toEqual([null, 'token'])
  expect(asked[1]!.headers.get('Content-Type')).toBe('application/json')
})

test('a fault names its fields, and a session that is over is told of', async () => {
  setCsrf('token')
  const lost = vi.fn()
  onSignedOut(lost)
  answers(json({ detail: 'to: nobody', errors: [{ field: 'to', message: 'nobody' }] }, 422), json({ detail: 'log in' }, 401))
  await expect(ask('POST', '/api/v1/calls', { body: {} })).rejects.toMatchObject({ status: 422, message: 'to: nobody', fields: { to: 'nobody' } })
  expect(lost).not.toHaveBeenCalled()
  await expect(ask('GET', '/api/v1/calls')).rejects.toMatchObject({ status: 401 })
  expect(lost).toHaveBeenCalledOnce()
})

test('a server that does not answer is said to be that, a fault of our own is not', async () => {
  vi.stubGlobal('fetch', async () => { throw new TypeError('Failed to fetch') })
  await expect(ask('GET', '/api/v1/calls')).rejects.toThrow('does not answer')
  expect(Fault.of(new TypeError('x is undefined')).message).toBe('x is undefined')
})

test('all pages of a list are read, and nothing that is empty is asked for', async () => {
  const asked = answers(json({ items: [1, 2], next: 'p2' }), json({ items: [3], next: null }))
  expect(await all('/api/v1/teams', { q: '' })).toEqual([1, 2, 3])
  expect(asked.map((request) => new URL(request.url).search)).toEqual(['?limit=200', '?limit=200&after=p2'])
})

test('a form has the fields of all parts of a schema, references and null variants in their place', () => {
  const schemas = {
    Trunk: { type: 'object', required: ['name'], properties: { name: { type: 'string' }, kind: { oneOf: [{ type: 'null' }, { $ref: '#/components/schemas/Kind', description: 'What kind' }] } } },
    Kind: { type: 'string', enum: ['register', 'static'] },
    Loop: { type: 'object', properties: { again: { $ref: '#/components/schemas/Loop' } } },
  }
  const found = resolve({ allOf: [{ $ref: '#/components/schemas/Trunk' }, { type: 'object', required: ['hosts'], properties: { hosts: { type: 'array', items: { type: 'string' } } } }] }, schemas)
  expect(Object.keys(found.properties!)).toEqual(['name', 'kind', 'hosts'])
  expect(found.required).toEqual(['name', 'hosts'])
  expect(found.properties!.kind).toMatchObject({ enum: ['register', 'static'], description: 'What kind' })
  expect(resolve({ $ref: '#/components/schemas/Loop' }, schemas).type).toBe('object')
})
