// The OpenAPI document as people read it: operations by what they are about, what a schema is in words, a request as a command.
import { resolve, type Schema } from '../ui/schema-form'

export type Kind = Schema & { title?: string; minimum?: number; maximum?: number; minLength?: number; maxLength?: number; additionalProperties?: Schema | boolean }
type Content = Record<string, { schema?: Kind }>
type Parameter = { name: string; in: string; required?: boolean; description?: string; schema?: Kind }
type Described = {
  tags?: string[]; summary?: string; description?: string; operationId: string; parameters?: Parameter[]; security?: unknown[]
  requestBody?: { required?: boolean; description?: string; content: Content }
  responses: Record<string, { description: string; content?: Content; headers?: Record<string, { description?: string }> }>
}
export type Document = {
  info: { title: string; version: string; description?: string }
  tags?: { name: string; description?: string }[]
  paths: Record<string, Record<string, Described>>
  components: { schemas: Record<string, Kind> }
}
export type Operation = Described & { method: string; path: string }
export type Group = { name: string; about: string; operations: Operation[] }
export type Property = { name: string; kind: Kind; required: boolean }

/** Methods as an item of the document has them; it may hold other things. */
const METHODS = ['get', 'post', 'put', 'patch', 'delete']

/** Every operation below what it is about, in the document's order. */
export function groups(document: Document): Group[] {
  const all = Object.entries(document.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ ...item[method]!, method: method.toUpperCase(), path })))
  const named = (document.tags ?? []).map(({ name, description }) => ({ name, about: description ?? '', operations: all.filter((one) => one.tags?.[0] === name) }))
  const rest = all.filter((one) => !named.some((group) => group.operations.includes(one)))
  return [...named, { name: 'others', about: '', operations: rest }].filter((group) => group.operations.length)
}

/** Whether an operation has all of these words somewhere in its name, path or text. */
export function fits(operation: Operation, words: string): boolean {
  const text = [operation.method, operation.path, operation.summary, operation.description, operation.operationId].join(' ').toLowerCase()
  return words.toLowerCase().split(/\s+/).every((word) => text.includes(word))
}

/** What a reference names, or what a variant is that is not null. */
export function nameOf(kind: Kind): string | undefined {
  const one = kind.$ref ?? variants(kind).find((variant) => variant.$ref)?.$ref
  return variants(kind).length > 1 ? undefined : one?.split('/').pop()
}

const variants = (kind: Kind): Kind[] => (kind.oneOf ?? kind.anyOf ?? []).filter((one) => one.type !== 'null')
const types = (kind: Kind) => [kind.type ?? []].flat().filter((type) => type !== 'null')

/** What a value is, in a few words: `text (uuid)`, `list of User`, `calls:read or calls:write`. */
export function words(document: Document, kind: Kind): string {
  const name = nameOf(kind)
  if (name) {
    const named = document.components.schemas[name]
    return named && !isObject(document, named) && !variants(named).length ? words(document, named) : name
  }
  if (variants(kind).length) return variants(kind).map((one) => one.title ?? words(document, one)).join(' or ')
  if (kind.enum) return kind.enum.join(' | ')
  const type = types(kind)[0]
  if (type === 'array') return `list of ${words(document, (kind.items ?? {}) as Kind)}`
  if (type === 'object' || kind.properties) return typeof kind.additionalProperties === 'object' && !kind.properties ? `names to ${words(document, kind.additionalProperties)}` : 'object'
  const range = [kind.minimum !== undefined && `from ${kind.minimum}`, kind.maximum !== undefined && `to ${kind.maximum}`, kind.maxLength !== undefined && `at most ${kind.maxLength} letters`].filter(Boolean)
  const more = [kind.format !== 'int64' && kind.format !== 'int32' && kind.format !== 'double' && kind.format, ...range].filter(Boolean).join(' ')
  const base = type === 'string' ? 'text' : type === 'boolean' ? 'true or false' : (type ?? 'anything')
  return more ? `${base} (${more})` : base
}

/** Whether null may stand there. */
export const mayBeNull = (kind: Kind) => [kind.type].flat().includes('null') || (kind.oneOf ?? kind.anyOf ?? []).some((one) => one.type === 'null')

/** The schema whose properties are to be shown: of an object itself, or of what a list is of. */
export function inner(document: Document, kind: Kind): Kind {
  const found = kind.$ref ? (document.components.schemas[nameOf(kind) ?? ''] ?? {}) : variants(kind).length === 1 ? variants(kind)[0]! : kind
  if (found !== kind) return inner(document, found)
  return types(kind)[0] === 'array' && kind.items ? inner(document, kind.items as Kind) : kind
}

/** The properties of an object, those of its parts first. */
export function properties(document: Document, kind: Kind): Property[] {
  const found = inner(document, kind)
  const parts = (found.allOf ?? []).flatMap((part) => properties(document, part as Kind))
  const own = Object.entries(found.properties ?? {}).map(([name, of]) => ({ name, kind: of as Kind, required: found.required?.includes(name) ?? false }))
  return [...parts, ...own]
}

const isObject = (document: Document, kind: Kind) => properties(document, kind).length > 0

/** Other shapes that a value may have, where there are several. */
export const shapes = (document: Document, kind: Kind): Kind[] => (variants(inner(document, kind)).length > 1 ? variants(inner(document, kind)) : [])

/** A value of this kind: the document's own examples, and what has to be there. */
export function sample(document: Document, kind: Kind): unknown {
  return made(resolve(kind, document.components.schemas) as Kind)
}

function made(kind: Kind): unknown {
  if (kind.example !== undefined) return kind.example
  const first = (kind.oneOf ?? kind.anyOf)?.[0] as Kind | undefined
  if (first) return made(first)
  if (kind.enum) return kind.enum[0]
  const type = types(kind)[0]
  if (type === 'array') return kind.items ? [made(kind.items as Kind)] : []
  if (type === 'object' || kind.properties) {
    const needed = Object.entries(kind.properties ?? {}).filter(([name, of]) => kind.required?.includes(name) || of.example !== undefined)
    return Object.fromEntries(needed.map(([name, of]) => [name, made(of as Kind)]))
  }
  if (type === 'boolean') return true
  if (type === 'integer' || type === 'number') return kind.minimum ?? 1
  return kind.format === 'password' ? '…' : kind.format === 'date-time' ? '2026-01-31T09:30:00Z' : 'text'
}

/** The request as one would type it into a shell. */
export function curl(document: Document, operation: Operation, origin: string): string {
  const path = operation.path.replace(/\{([^}]*)\}/g, (_, name: string) => name.toUpperCase())
  const lines = [`curl ${operation.method === 'GET' ? '' : `-X ${operation.method} `}${origin}${path}`]
  if (operation.security?.length) lines.push('-H "Authorization: Bearer $KEY"')
  for (const one of operation.parameters ?? []) {
    if (one.in === 'header' && (one.required || one.name === 'Idempotency-Key')) lines.push(`-H '${one.name}: ${one.name === 'If-Match' ? '"ETAG"' : 'TEXT'}'`)
  }
  const [type, body] = Object.entries(operation.requestBody?.content ?? {})[0] ?? []
  if (type === 'application/json') {
    const json = JSON.stringify(sample(document, body?.schema ?? {}), null, 2)
    lines.push(`-H 'Content-Type: ${type}'`, `-d '${json.replaceAll("'", String.raw`'\''`)}'`)
  } else if (type) {
    lines.push(`-H 'Content-Type: ${type}'`, '--data-binary @FILE')
  }
  return lines.join(' \\\n  ')
}
