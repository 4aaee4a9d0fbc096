// A form made from what the OpenAPI document says of a body: what can be configured can be edited, without a second list of it here.
import { createResource, For, Show, type JSX } from 'solid-js'
import { ask } from '../api/client'
import { words } from '../format'
import { Check, Field, Prose, Select, Text } from './parts'

export type Schema = {
  type?: string | string[]; enum?: string[]; properties?: Record<string, Schema>; required?: string[]; items?: Schema
  description?: string; example?: unknown; default?: unknown; format?: string; $ref?: string; allOf?: Schema[]; oneOf?: Schema[]; anyOf?: Schema[]
}
type Document = { paths: Record<string, Record<string, { requestBody?: { content: Record<string, { schema: Schema }> } }>>; components: { schemas: Record<string, Schema> } }

/** The schema of what is sent to a path, with what it refers to in its place. */
export function useBody(method: string, path: () => string) {
  const [schema] = createResource(path, async (path) => {
    const document = await ask<Document>('GET', '/api/v1/openapi.json')
    const found = document.paths[path]?.[method]?.requestBody?.content['application/json']?.schema
    return found && resolve(found, document.components.schemas)
  })
  return schema
}

/** Without references, variants that are null, and parts to be joined; a few levels deep. */
export function resolve(schema: Schema, all: Record<string, Schema>, depth = 0): Schema {
  if (depth > 6) return {}
  if (schema.$ref) return { ...resolve(all[schema.$ref.split('/').pop()!] ?? {}, all, depth + 1), ...(schema.description ? { description: schema.description } : {}) }
  const variants = (schema.oneOf ?? schema.anyOf)?.filter((one) => one.type !== 'null')
  if (variants?.length === 1) return { ...resolve(variants[0]!, all, depth + 1), ...(schema.description ? { description: schema.description } : {}) }
  const parts = (schema.allOf ?? []).map((part) => resolve(part, all, depth + 1))
  const own = Object.entries(schema.properties ?? {}).map(([name, of]) => [name, resolve(of, all, depth + 1)] as const)
  const properties = { ...Object.assign({}, ...parts.map((part) => part.properties ?? {})), ...Object.fromEntries(own) }
  return {
    ...schema, ...(Object.keys(properties).length ? { properties, type: 'object' } : {}),
    required: [...(schema.required ?? []), ...parts.flatMap((part) => part.required ?? [])], ...(schema.items ? { items: resolve(schema.items, all, depth + 1) } : {}),
  }
}

const kindOf = (schema: Schema) => (Array.isArray(schema.type) ? schema.type.find((type) => type !== 'null') : schema.type)
const isNumber = (schema: Schema) => ['integer', 'number'].includes(kindOf(schema) ?? '')
/** A list of texts or numbers: each has a line. */
const isLines = (schema: Schema) => kindOf(schema) === 'array' && (!schema.items || kindOf(schema.items) === 'string' || isNumber(schema.items)) && !schema.items?.properties
/** What is written and never shown. */
export const isSecret = (schema: Schema) => (schema.items ?? schema).format === 'password'

/** What a key is called above its field: `ring_s` is "Ring (seconds)". */
export const titleOf = (name: string) => words(name.replace(/_s$/, '')).replace(/\b(Tls|Srtp|Ha1)\b/, (word) => word.toUpperCase()) + (name.endsWith('_s') ? ' (seconds)' : '')

/** What is kept while it is edited: text as it was typed, so that nothing is lost on the way. */
export type Draft = Record<string, unknown>

type Fields = {
  schema: Schema; draft: Draft; change: (name: string, value: unknown) => void; wrong: (field: string) => string | undefined
  /** Those that stand open, in order; the others are folded. All, where it is left out. */
  first?: string[]
  skip?: string[]
  /** What there is already: this key stays as it is, and so do secrets that nothing is written for. */
  fixed?: string
}

/** The fields of an object. */
export function SchemaFields(props: Fields) {
  const names = () => Object.keys(props.schema.properties ?? {}).filter((name) => !props.skip?.includes(name))
  const open = () => props.first ? [...new Set([...props.first, ...(props.schema.required ?? [])])].filter((name) => names().includes(name)) : names()
  const folded = () => names().filter((name) => !open().includes(name))
  return (
    <>
      <For each={open()}>{(name) => <One name={name} of={props} />}</For>
      <Show when={folded().length}>
        <details open={folded().some((name) => props.wrong(name))}>
          <summary>More</summary>
          <div class="form"><For each={folded()}>{(name) => <One name={name} of={props} />}</For></div>
        </details>
      </Show>
    </>
  )
}

function One(props: { name: string; of: Fields }) {
  const { name } = props
  const schema = props.of.schema.properties![name]!
  const required = props.of.schema.required?.includes(name)
  const usual = schema.default as unknown
  const shared = { label: titleOf(name), hint: schema.description && <Prose text={schema.description} />, placeholder: placeholder(schema, Boolean(props.of.fixed)) }
  const value = () => props.of.draft[name]
  const wrong = () => props.of.wrong(name)
  const change = (value: unknown) => props.of.change(name, value)
  if (kindOf(schema) === 'boolean') return <div class="field"><Check label={shared.label} value={Boolean(value() ?? usual)} on={change} /><span classList={{ hint: !wrong(), wrong: Boolean(wrong()) }}>{wrong() ?? shared.hint}</span></div>
  if (schema.enum) return <Select {...shared} wrong={wrong()} value={String(value() ?? usual ?? '')} on={(chosen) => change(chosen || undefined)} options={[...(required || usual !== undefined ? [] : [['', 'Default'] as const]), ...schema.enum.filter((one) => one !== null).map((one) => [one, words(one)] as const)]} />
  if (isNumber(schema)) return <Text {...shared} wrong={wrong()} type="number" step="any" required={required} value={String(value() ?? '')} on={(text) => change(text === '' ? undefined : Number(text))} />
  if (isLines(schema)) {
    // None is something else than the default where that has some.
    const isSome = required || (Array.isArray(usual) && usual.length > 0)
    const read = (lines: string[]) => change(lines.length || isSome ? (isNumber(schema.items ?? {}) ? lines.map(Number) : lines) : undefined)
    return <Lines {...shared} wrong={wrong()} value={((value() ?? (isSecret(schema) ? [] : usual) ?? []) as unknown[]).map(String)} on={read} />
  }
  if (kindOf(schema) === 'string' || !kindOf(schema)) return <Text {...shared} wrong={wrong()} required={required} readonly={props.of.fixed === name} type={isSecret(schema) ? 'password' : 'text'} autocomplete={isSecret(schema) ? 'new-password' : 'off'} value={String(value() ?? '')} on={(text) => change(text || undefined)} />
  return <Json {...shared} wrong={wrong()} value={value()} on={change} />
}

/** What a field says while nothing is in it. */
function placeholder(schema: Schema, isKept: boolean): string {
  if (isSecret(schema)) return isKept ? 'Stays as it is' : ''
  if (schema.default !== undefined && schema.default !== '' && !Array.isArray(schema.default)) return String(schema.default)
  return schema.example === undefined ? '' : `Such as ${[schema.example].flat().join(', ')}`
}

function Lines(props: { label: string; hint?: JSX.Element; wrong?: string; placeholder?: string; value: string[]; on: (lines: string[]) => void }) {
  return (
    <Field label={props.label} wrong={props.wrong} hint={<>{props.hint} One a line.</>}>
      {(attributes) => <textarea {...attributes} placeholder={props.placeholder} rows={Math.min(6, Math.max(2, props.value.length))} onChange={(event) => props.on(event.currentTarget.value.split('\n').map((line) => line.trim()).filter(Boolean))}>{props.value.join('\n')}</textarea>}
    </Field>
  )
}

function Json(props: { label: string; hint?: JSX.Element; wrong?: string; value: unknown; on: (value: unknown) => void }) {
  let area!: HTMLTextAreaElement
  const read = () => {
    try {
      props.on(area.value.trim() ? JSON.parse(area.value) : undefined)
      area.setCustomValidity('')
    } catch (fault) {
      area.setCustomValidity(`This is no JSON: ${(fault as Error).message}`)
      area.reportValidity()
    }
  }
  return (
    <Field label={props.label} wrong={props.wrong} hint={<><Show when={props.hint}>{props.hint} </Show>As JSON.</>}>
      {(attributes) => <textarea {...attributes} ref={area} class="mono" rows="3" onChange={read}>{props.value === undefined ? '' : JSON.stringify(props.value, null, 2)}</textarea>}
    </Field>
  )
}
