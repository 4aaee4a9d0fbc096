// The server's interface. `api` is typed by its OpenAPI document; `ask` is the same without types, for what the document describes only
// while the program is being built. What goes wrong is a `Fault` that names the fields.
import createClient from 'openapi-fetch'
import type { components, paths } from './schema'

export type Schemas = components['schemas']
export type Who = Schemas['Who']
export type User = Schemas['User']
export type Role = Schemas['Role']
export type LiveCall = Schemas['LiveCall']
export type CallRecord = Schemas['CallRecord']
export type Page<T> = { items: T[]; next?: string | null }

export class Fault extends Error {
  constructor(readonly status: number, detail: string, readonly fields: Record<string, string> = {}) {
    super(detail)
  }

  /** What was thrown, as a fault. */
  static of(thrown: unknown): Fault {
    if (thrown instanceof Fault) return thrown
    return new Fault(0, thrown instanceof Error ? thrown.message : String(thrown))
  }

  /** A request that had no answer at all. */
  static offline(thrown: unknown): Fault {
    if (thrown instanceof DOMException && thrown.name === 'AbortError') return Fault.of(thrown)
    return new Fault(0, 'The server does not answer. Is it running, and are you connected?')
  }
}

let csrf: string | null = null
let lost = () => {}

/** What proves to the server that a request is this page's own. */
export const setCsrf = (token: string | null) => { csrf = token }
/** Called when the server no longer knows who we are. */
export const onSignedOut = (callback: () => void) => { lost = callback }

function prepare(request: Request): Request {
  if (csrf && request.method !== 'GET') request.headers.set('X-CSRF-Token', csrf)
  return request
}

const client = createClient<paths>({ baseUrl: location.origin })
client.use({ onRequest: ({ request }) => prepare(request) })

/** The typed client; its answers go through `take`. */
export const api = client

/** The body of an answer, or the fault thrown. */
export async function take<T>(answer: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  const { data, error, response } = await answer.catch((thrown) => { throw Fault.offline(thrown) })
  if (!response.ok) throw fault(response, error)
  return data as T
}

function fault(response: Response, body: unknown): Fault {
  const problem = (typeof body === 'object' && body ? body : {}) as Partial<Schemas['Problem']>
  const fields = Object.fromEntries((problem.errors ?? []).map(({ field, message }) => [field, message]))
  if (response.status === 401 && csrf) lost()
  return new Fault(response.status, problem.detail ?? `The server answers ${response.status}.`, fields)
}

type Asked = { body?: unknown; query?: Record<string, unknown>; headers?: Record<string, string>; signal?: AbortSignal }

/** A request whose answer is not JSON, or is looked at by hand. */
export async function send(method: string, path: string, { body, query, headers, signal }: Asked = {}): Promise<Response> {
  const url = new URL(path, location.origin)
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined && value !== null && value !== '') url.searchParams.set(name, String(value))
  }
  const isText = typeof body === 'string'
  const type: Record<string, string> = body === undefined || isText ? {} : { 'Content-Type': 'application/json' }
  const init = { method, headers: { ...type, ...headers }, body: body === undefined ? null : isText ? body : JSON.stringify(body), signal: signal ?? null, keepalive: method === 'DELETE' }
  const response = await fetch(prepare(new Request(url, init))).catch((thrown) => { throw Fault.offline(thrown) })
  if (!response.ok) throw fault(response, await response.json().catch(() => null))
  return response
}

/** A request by path, its answer as JSON (nothing where there is none). */
export async function ask<T>(method: string, path: string, asked?: Asked): Promise<T> {
  const response = await send(method, path, asked)
  const text = await response.text()
  return (text ? JSON.parse(text) : undefined) as T
}

/** What can be changed, with the ETag to change it by. */
export async function tagged<T>(path: string): Promise<{ value: T; tag: string }> {
  const response = await send('GET', path)
  return { value: (await response.json()) as T, tag: response.headers.get('ETag') ?? '*' }
}

/** All pages of a short list, in one. */
export async function all<T>(path: string, query: Record<string, unknown> = {}): Promise<T[]> {
  const items: T[] = []
  for (let after: string | undefined; ;) {
    const page = await ask<Page<T>>('GET', path, { query: { ...query, limit: 200, after } })
    items.push(...page.items)
    if (!page.next || items.length >= 2_000) return items
    after = page.next
  }
}
