// Trunks, routes, numbers and devices: those of the configuration file, to be looked at, and those that are kept here, to be changed.
import { A, useParams } from '@solidjs/router'
import { createMemo, createSignal, For, Show } from 'solid-js'
import { createStore } from 'solid-js/store'
import { ask, tagged, type Page } from '../api/client'
import { can } from '../session'
import { Button, Confirm, Empty, Head, Modal, Notice, Tag, toast, useWork } from '../ui/parts'
import { List, usePages } from '../ui/pages'
import { SchemaFields, useBody, type Draft } from '../ui/schema-form'

type Item = Draft & { name?: string; user?: string; source?: 'file' | 'stored' }
const KINDS = {
  trunks: { title: 'Trunks', one: 'trunk', says: 'Carriers, whom calls come from and go to.' },
  routes: { title: 'Routes', one: 'route', says: 'Which call goes where: the first rule that fits.' },
  numbers: { title: 'Numbers', one: 'number', says: 'Numbers of your own, and who answers them.' },
  devices: { title: 'Devices', one: 'device', says: 'Phones that register here.' },
} as const
/** What most people write, in order; the other keys of a kind are folded. */
const FIRST: Record<Kind, string[]> = {
  trunks: ['name', 'kind', 'hosts', 'username', 'password', 'addresses', 'caller', 'country', 'max_calls'],
  routes: ['name', 'to', 'from', 'called', 'caller', 'days', 'hours', 'zone', 'position'],
  numbers: ['number', 'to', 'trunk', 'note'],
  devices: ['user', 'password', 'display_name', 'numbers', 'caller'],
}
/** What tells one from another in the list. */
const TELLS: Record<Kind, string[]> = {
  trunks: ['kind', 'hosts', 'addresses', 'username', 'caller'],
  routes: ['from', 'called', 'caller', 'days', 'hours', 'position'],
  numbers: ['trunk', 'note'],
  devices: ['display_name', 'numbers', 'caller'],
}
type Kind = keyof typeof KINDS
const KEYS: Record<Kind, string> = { trunks: 'name', routes: 'name', numbers: 'number', devices: 'user' }

const nameOf = (item: Item) => String(item.name ?? item.user ?? item.number ?? '')
/** The keys that say something, in a few words. */
export const summary = (kind: Kind, item: Item) => TELLS[kind]
  .filter((name) => item[name] != null && String(item[name]) !== '')
  .map((name) => `${name.replace(/_/g, ' ')} ${[item[name]].flat().join(', ')}`).join(' · ')

export default function Telephony() {
  const params = useParams<{ kind: string }>()
  return <Show when={params.kind in KINDS && params.kind} keyed fallback={<Empty title="There is no such page." />}>{(kind) => <Kinds kind={kind as Kind} />}</Show>
}

function Kinds(props: { kind: Kind }) {
  const kind = KINDS[props.kind]
  const [editing, setEditing] = createSignal<Item | 'new' | null>(null)
  const pages = usePages<Item>((after) => ask<Page<Item>>('GET', `/api/v1/${props.kind}`, { query: { after } }))
  const done = () => { setEditing(null); void pages.again() }
  return (
    <div class="page">
      <Head title={kind.title} sub={kind.says}><Button kind="primary" icon="plus" onClick={() => setEditing('new')}>Add a {kind.one}</Button></Head>
      <nav class="tabs" aria-label="Telephony"><For each={Object.entries(KINDS)}>{([name, { title }]) => <Show when={can(`/${name}`)}><A href={`/telephony/${name}`} activeClass="active">{title}</A></Show>}</For></nav>
      <List label={kind.title} pages={pages} open={setEditing} empty={<Empty title={`No ${kind.one} yet.`} />} columns={[
        { title: 'Name', kind: 'fit', cell: (item) => <b>{nameOf(item)}</b> },
        { title: props.kind === 'routes' || props.kind === 'numbers' ? 'Goes to' : 'What', cell: (item) => <><Show when={item.to}><span>{String(item.to)}<br /></span></Show><span class="muted small">{summary(props.kind, item)}</span></> },
        { title: 'From', kind: 'fit', phone: false, cell: (item) => <Tag>{item.source === 'file' ? 'File' : 'Here'}</Tag> },
        { title: '', kind: 'fit', cell: (item) => <Button tiny aria-label={`${item.source === 'file' ? 'Show' : 'Change'} ${nameOf(item)}`} onClick={() => setEditing(item)}>{item.source === 'file' ? 'Show' : 'Change'}</Button> },
      ]} />
      <Show when={editing()} keyed>{(item) => <Edit kind={props.kind} item={item === 'new' ? null : item} close={() => setEditing(null)} done={done} />}</Show>
    </div>
  )
}

function Edit(props: { kind: Kind; item: Item | null; close: () => void; done: () => void }) {
  const { item } = props
  const schema = useBody(item ? 'put' : 'post', () => `/api/v1/${props.kind}${item ? '/{name}' : ''}`)
  const [draft, setDraft] = createStore<Draft>(JSON.parse(JSON.stringify(item ?? {})) as Draft)
  const [removing, setRemoving] = createSignal(false)
  const work = useWork()
  const path = `/api/v1/${props.kind}/${encodeURIComponent(item ? nameOf(item) : '')}`
  const names = createMemo(() => Object.keys(schema()?.properties ?? {}))
  const isFile = item?.source === 'file'
  // Whoever else changes it from here on is not overwritten.
  const opened = item && !isFile ? tagged<Item>(path).then(({ value, tag }) => { setDraft(value); return tag }) : undefined
  opened?.catch(() => {})
  const skip = () => isFile ? names().filter((name) => !(name in item)) : []
  const submit = async (event: SubmitEvent) => {
    event.preventDefault()
    const body = Object.fromEntries(names().map((name) => [name, draft[name]]).filter(([, value]) => value !== undefined && value !== null))
    const saved = await work.run(async () => {
      if (!item) return ask('POST', `/api/v1/${props.kind}`, { body })
      await ask('PUT', path, { body, headers: { 'If-Match': (await opened)! } })
    })
    if (saved) { toast('Saved. It holds for calls from now on.'); props.done() }
  }
  return (
    <Show when={!removing()} fallback={<Confirm title={`Remove ${nameOf(item!)}`} action="Remove" close={() => setRemoving(false)} do={async () => { await ask('DELETE', path); props.done() }}>Calls in progress go on; new ones do without it.</Confirm>}>
      <Modal title={item ? nameOf(item) : `Add a ${KINDS[props.kind].one}`} close={props.close}>
        <form class="form" onSubmit={submit}>
          <Show when={isFile}><Notice tone="info">It stands in the configuration file: change it there.</Notice></Show>
          <Show when={schema()} fallback={<p class="muted">Loading…</p>}>{(schema) => (
            <fieldset class="form" disabled={isFile}><SchemaFields schema={schema()} draft={draft} change={(name, value) => setDraft(name, value)} wrong={work.wrong} first={FIRST[props.kind]} skip={skip()} fixed={item ? KEYS[props.kind] : undefined} /></fieldset>
          )}</Show>
          <Notice>{work.rest(...names())}</Notice>
          <div class="buttons">
            <Show when={item && !isFile}><Button kind="danger" onClick={() => setRemoving(true)}>Remove</Button></Show>
            <Show when={!isFile}><Button kind="primary" type="submit" disabled={work.busy()}>Save</Button></Show>
          </div>
        </form>
      </Modal>
    </Show>
  )
}
