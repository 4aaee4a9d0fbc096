// A form made from what the OpenAPI document says of a body: what can be configured can be edited, without a second list of it here.
import { createResource, For, Show } from 'solid-js'
import { ask } from '../api/client'
import { words } from '../format'
import { Check, Field, Select, Text } from './parts'

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
const isLines = (schema: Schema) => kindOf(schema) === 'array' && (!schema.items || kindOf(schema.items) === 'string') && !schema.items?.properties

/** What is kept while it is edited: text as it was typed, so that nothing is lost on the way. */
export type Draft = Record<string, unknown>

/** The fields of an object. */
export function SchemaFields(props: { schema: Schema; draft: Draft; change: (name: string, value: unknown) => void; wrong: (field: string) => string | undefined; skip?: string[] }) {
  const names = () => Object.keys(props.schema.properties ?? {}).filter((name) => !props.skip?.includes(name))
  return (
    <For each={names()}>{(name) => {
      const schema = props.schema.properties![name]!
      const required = props.schema.required?.includes(name)
      const shared = { label: words(name), hint: schema.description?.split(/(?<=\.)\s/)[0] }
      const value = () => props.draft[name]
      const wrong = () => props.wrong(name)
      if (kindOf(schema) === 'boolean') return <div class="field"><Check label={shared.label} value={Boolean(value() ?? schema.default)} on={(on) => props.change(name, on)} /><span class="hint">{shared.hint}</span></div>
      if (schema.enum) return <Select {...shared} wrong={wrong()} value={String(value() ?? '')} on={(chosen) => props.change(name, chosen || undefined)} options={[...(required ? [] : [['', 'Default'] as const]), ...schema.enum.filter((one) => one !== null).map((one) => [one, words(one)] as const)]} />
      if (['integer', 'number'].includes(kindOf(schema) ?? '')) return <Text {...shared} wrong={wrong()} type="number" step="any" required={required} value={String(value() ?? '')} on={(text) => props.change(name, text === '' ? undefined : Number(text))} />
      if (isLines(schema)) return <Lines {...shared} wrong={wrong() ?? props.wrong(`${name}[0]`)} value={(value() as string[] | undefined) ?? []} on={(lines) => props.change(name, lines.length || required ? lines : undefined)} />
      if (kindOf(schema) === 'string' || !kindOf(schema)) return <Text {...shared} wrong={wrong()} required={required} type={schema.format === 'password' ? 'password' : 'text'} autocomplete={schema.format === 'password' ? 'new-password' : 'off'} value={String(value() ?? '')} on={(text) => props.change(name, text || undefined)} />
      return <Json {...shared} wrong={wrong()} value={value()} on={(parsed) => props.change(name, parsed)} />
    }}</For>
  )
}

function Lines(props: { label: string; hint?: string; wrong?: string; value: string[]; on: (lines: string[]) => void }) {
  return (
    <Field label={props.label} wrong={props.wrong} hint={<>{props.hint} One a line.</>}>
      {(attributes) => <textarea {...attributes} rows={Math.min(6, Math.max(2, props.value.length))} onChange={(event) => props.on(event.currentTarget.value.split('\n').map((line) => line.trim()).filter(Boolean))}>{props.value.join('\n')}</textarea>}
    </Field>
  )
}

function Json(props: { label: string; hint?: string; wrong?: string; value: unknown; on: (value: unknown) => void }) {
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
