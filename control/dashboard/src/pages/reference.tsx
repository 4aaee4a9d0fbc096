// The HTTP interface as its OpenAPI document describes it; read by programs' authors, logged in or not.
import { useLocation } from '@solidjs/router'
import { createEffect, createMemo, createResource, createSignal, For, Show } from 'solid-js'
import { ask, Fault } from '../api/client'
import { curl, fits, groups, mayBeNull, nameOf, properties, shapes, words, type Document, type Kind, type Operation } from '../api/reference'
import { Button, Empty, Head, Notice, Prose, Tag, Text, toast, type Tone } from '../ui/parts'

/** Schemas within schemas are opened so deep. */
const DEPTH_LIMIT = 6
const TONES: Record<string, Tone> = { GET: 'info', POST: 'good', PUT: 'warn', PATCH: 'warn', DELETE: 'bad' }

export default function Reference() {
  const [document] = createResource(() => ask<Document>('GET', '/api/v1/openapi.json'))
  return (
    <div class="page reference">
      <Head title="HTTP interface" sub={`Version ${document()?.info.version ?? '…'}`}>
        <a class="button" href="/api/v1/openapi.json" target="_blank" rel="external">OpenAPI document</a>
      </Head>
      <Show when={document.error}><Notice>{Fault.of(document.error).message}</Notice></Show>
      <Show when={!document.error && document()} keyed>{(document) => <Operations document={document} />}</Show>
    </div>
  )
}

function Operations(props: { document: Document }) {
  const [find, setFind] = createSignal('')
  const all = groups(props.document)
  const shown = createMemo(() => all.map((group) => ({ ...group, operations: group.operations.filter((one) => fits(one, find())) })).filter((group) => group.operations.length))
  const count = () => shown().reduce((sum, group) => sum + group.operations.length, 0)
  const location = useLocation()
  const asked = () => decodeURIComponent(location.hash.slice(1))
  return (
    <>
      <section class="panel"><div class="body">
        <For each={props.document.info.description?.split('\n\n')}>{(text) => <p><Prose text={text} /></p>}</For>
      </div></section>
      <div class="filters">
        <Text class="wide" label="Find" type="search" value={find()} on={setFind} placeholder="records, POST webhooks, calls:write" />
        <p class="muted" role="status">{count()} of {all.reduce((sum, group) => sum + group.operations.length, 0)} requests</p>
      </div>
      <nav aria-label="What requests are about" class="actions"><For each={shown()}>{(group) => <a class="button tiny" href={`#${group.name}`}>{group.name}</a>}</For></nav>
      <Show when={count()} fallback={<Empty title="No request fits." />}>
        <For each={shown()}>{(group) => (
          <section class="panel" id={group.name} aria-labelledby={`of-${group.name}`}>
            <header><h2 id={`of-${group.name}`}>{group.name}</h2><span class="muted">{group.about}</span></header>
            <For each={group.operations}>{(operation) => <One document={props.document} operation={operation} open={asked() === operation.operationId} />}</For>
          </section>
        )}</For>
      </Show>
    </>
  )
}

/** One request; what is in it is made when it is opened. */
function One(props: { document: Document; operation: Operation; open: boolean }) {
  const [open, setOpen] = createSignal(props.open)
  let details!: HTMLDetailsElement
  createEffect(() => {
    if (!props.open) return
    details.open = true
    details.scrollIntoView({ block: 'start' })
  })
  return (
    <details ref={details} id={props.operation.operationId} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary><Tag tone={TONES[props.operation.method]}>{props.operation.method}</Tag> <code>{props.operation.path}</code> <span class="muted">{props.operation.summary}</span></summary>
      <Show when={open()}><Whole document={props.document} operation={props.operation} /></Show>
    </details>
  )
}

function Whole(props: { document: Document; operation: Operation }) {
  const bodies = () => Object.entries(props.operation.requestBody?.content ?? {})
  const answers = () => Object.entries(props.operation.responses).sort(([one], [other]) => one.localeCompare(other))
  const command = () => curl(props.document, props.operation, location.origin)
  const copy = () => (navigator.clipboard?.writeText(command()) ?? Promise.reject()).then(() => toast('Copied.'), () => toast('It could not be copied: select it by hand.', true))
  return (
    <div class="body">
      <For each={props.operation.description?.split('\n\n')}>{(text) => <p><Prose text={text} /></p>}</For>
      <p class="small"><a href={`#${props.operation.operationId}`}>Link to this request</a></p>
      <Show when={props.operation.parameters?.length}>
        <h3>Parameters</h3>
        <dl class="schema"><For each={props.operation.parameters}>{(one) => (
          <Entry name={one.name} kind={one.schema ?? {}} required={one.required ?? false} where={one.in} about={one.description} document={props.document} depth={0} />
        )}</For></dl>
      </Show>
      <For each={bodies()}>{([type, { schema }]) => (
        <>
          <h3>Body: <code>{type}</code></h3>
          <Show when={props.operation.requestBody?.description}>{(text) => <p><Prose text={text()} /></p>}</Show>
          <Shape document={props.document} kind={schema ?? {}} depth={0} />
        </>
      )}</For>
      <h3>Answers</h3>
      <dl class="schema"><For each={answers()}>{([code, answer]) => (
        <>
          <dt><Tag tone={code < '300' ? 'good' : code < '400' ? 'info' : 'warn'}>{code}</Tag></dt>
          <dd>
            <Prose text={answer.description} />
            <For each={Object.entries(answer.headers ?? {})}>{([name, header]) => <div class="small"><code>{name}</code> <span class="muted"><Prose text={header.description ?? ''} /></span></div>}</For>
            <For each={Object.entries(answer.content ?? {})}>{([type, { schema }]) => (
              <Show when={type !== 'application/problem+json'}>
                <div class="small muted"><code>{type}</code> {words(props.document, schema ?? {})}</div>
                <Shape document={props.document} kind={schema ?? {}} depth={0} />
              </Show>
            )}</For>
          </dd>
        </>
      )}</For></dl>
      <p class="small muted">Faults are <code>application/problem+json</code> (RFC 9457): <code>title</code>, <code>status</code>, <code>detail</code>, and <code>errors</code> with the fields that are wrong.</p>
      <h3>By hand</h3>
      <pre class="ladder" tabindex="0" aria-label="The request as a command">{command()}</pre>
      <div><Button tiny onClick={copy}>Copy</Button></div>
    </div>
  )
}

/** What an object holds, or the shapes that a value may have. */
function Shape(props: { document: Document; kind: Kind; depth: number }) {
  const held = () => properties(props.document, props.kind)
  return (
    <>
      <Show when={held().length}>
        <dl class="schema"><For each={held()}>{(one) => <Entry name={one.name} kind={one.kind} required={one.required} document={props.document} depth={props.depth} />}</For></dl>
      </Show>
      <For each={shapes(props.document, props.kind)}>{(one, at) => (
        <Nested title={one.title ?? nameOf(one) ?? `Shape ${at() + 1}: ${words(props.document, one)}`} document={props.document} kind={one} depth={props.depth} />
      )}</For>
    </>
  )
}

function Entry(props: { name: string; kind: Kind; required: boolean; where?: string; about?: string | undefined; document: Document; depth: number }) {
  const opens = () => props.depth < DEPTH_LIMIT && (properties(props.document, props.kind).length > 0 || shapes(props.document, props.kind).length > 0)
  return (
    <>
      <dt><code>{props.name}</code><Show when={props.where}><span class="small muted"> {props.where}</span></Show></dt>
      <dd>
        <span class="small muted">{words(props.document, props.kind)}{mayBeNull(props.kind) && !props.where ? ' or null' : ''}{props.required ? '' : ', optional'}</span>
        <Show when={props.about ?? props.kind.description ?? about(props.kind)}>{(text) => <div><Prose text={text()} /></div>}</Show>
        <Show when={opens()}><Nested title={nameOf(props.kind) ?? 'What is in it'} document={props.document} kind={props.kind} depth={props.depth + 1} /></Show>
      </dd>
    </>
  )
}

const about = (kind: Kind) => [...(kind.oneOf ?? []), ...(kind.allOf ?? [])].find((one) => one.description)?.description

function Nested(props: { title: string; document: Document; kind: Kind; depth: number }) {
  const [open, setOpen] = createSignal(false)
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary class="small">{props.title}</summary>
      <Show when={open()}><Shape document={props.document} kind={props.kind} depth={props.depth} /></Show>
    </details>
  )
}
