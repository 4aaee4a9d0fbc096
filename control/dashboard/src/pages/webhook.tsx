// A webhook: what it is told of, whether that arrives, and what to do about what did not.
import { useNavigate, useParams } from '@solidjs/router'
import { createEffect, createResource, createSignal, Show } from 'solid-js'
import { ask, tagged, type Page } from '../api/client'
import { day, when, words } from '../format'
import { act, Button, Check, Confirm, Empty, Field, Head, Modal, Notice, Panel, Secret, Select, Tag, Text, toast, useWork } from '../ui/parts'
import { List, usePages } from '../ui/pages'
import { eventsOf, WebhookState, type Webhook } from './webhooks'

type Delivery = { id: string; message: string; event: string; call: string; state: string; attempts: number; next_at?: string | null; last_at?: string | null; last_status?: number | null; last_error?: string | null; created_at: string }
type Tested = { delivered: boolean; status?: number | null; ms: number; error?: string | null }

export default function WebhookPage() {
  const params = useParams<{ id: string }>()
  const navigate = useNavigate()
  const path = () => `/api/v1/webhooks/${encodeURIComponent(params.id)}`
  const [hook, { refetch }] = createResource(path, (path) => ask<Webhook>('GET', path).catch(() => null))
  const [state, setState] = createSignal('')
  const [secret, setSecret] = createSignal('')
  const [removing, setRemoving] = createSignal(false)
  const [tested, setTested] = createSignal<Tested | null>(null)
  const work = useWork()
  const pages = usePages<Delivery>((after) => ask<Page<Delivery>>('GET', `${path()}/deliveries`, { query: { after, state: state() } }), () => [path(), state()].join())
  const test = () => work.run(async () => { setTested(await ask<Tested>('POST', `${path()}/test`)); void pages.again() })
  const replay = (delivery: Delivery) => act(async () => { await ask('POST', `${path()}/deliveries/${delivery.id}/replay`); void pages.again() }, 'It is sent again.')
  const replayDead = () => act(async () => { await ask('POST', `${path()}/replay`, { body: { since: new Date(Date.now() - 7 * 86_400_000).toISOString() } }); void pages.again() }, 'What could not be delivered within a week is sent again.')
  return (
    <Show when={hook()} fallback={<Show when={!hook.loading} fallback={<p class="empty">Loading…</p>}><div class="page"><Head title="Webhook" /><div class="panel"><Empty title="There is no such webhook." /></div></div></Show>}>{(hook) => (
      <div class="page">
        <Head title={hook().name} sub={<><WebhookState state={hook().state} /> <code>{hook().url}</code></>}>
          <Button disabled={work.busy()} onClick={test}>{work.busy() ? 'Sending…' : 'Send a test'}</Button>
          <Button onClick={() => act(async () => setSecret((await ask<{ secret: string }>('POST', `${path()}/secret`)).secret))}>New secret</Button>
          <Button kind="danger" onClick={() => setRemoving(true)}>Remove</Button>
        </Head>
        <Notice>{work.fault()?.message}</Notice>
        <Show when={tested()}>{(tested) => <Notice tone={tested().delivered ? 'good' : 'warn'}>{tested().delivered ? `The test arrived: ${tested().status} after ${tested().ms} ms.` : `The test did not arrive: ${tested().error ?? `the answer was ${tested().status}`} (${tested().ms} ms).`}</Notice>}</Show>
        <Show when={hook().disabled_why}><Notice tone="warn">It was switched off: {hook().disabled_why}</Notice></Show>
        <Show when={hook().failing_since}><Notice tone="warn">It has been failing since {when(hook().failing_since)}.</Notice></Show>
        <Settings hook={hook()} path={path()} done={refetch} />
        <div class="filters">
          <Select label="Deliveries" value={state()} on={setState} options={[['', 'All'], ['pending', 'Waiting'], ['delivered', 'Delivered'], ['dead', 'Given up']]} />
          <Button onClick={replayDead}>Send again what was given up this week</Button>
        </div>
        <List label="Deliveries" pages={pages} empty={<Empty title="Nothing was to be told yet." />} columns={[
          { title: 'When', kind: 'fit', cell: (one) => <span class="num">{day(one.created_at)}</span> },
          { title: 'Event', cell: (one) => one.event },
          { title: 'State', kind: 'fit', cell: (one) => <Tag tone={{ delivered: 'good', dead: 'bad' }[one.state] ?? 'warn'}>{words(one.state)}</Tag> },
          { title: 'Tries', kind: 'right', phone: false, cell: (one) => one.attempts },
          { title: 'Last answer', phone: false, cell: (one) => one.last_status ?? one.last_error ?? '' },
          { title: 'Next try', kind: 'fit', wide: true, cell: (one) => day(one.next_at) },
          { title: '', kind: 'fit', cell: (one) => <Button tiny onClick={() => replay(one)} aria-label={`Send ${one.event} of ${day(one.created_at)} again`}>Again</Button> },
        ]} />
        <Show when={secret()}><Modal title="The new secret" close={() => setSecret('')}><div class="form"><Notice tone="info">Copy it now. For a day requests are signed by the old one too.</Notice><Secret value={secret()} label="The secret" /></div></Modal></Show>
        <Show when={removing()}><Confirm title={`Remove ${hook().name}`} action="Remove" close={() => setRemoving(false)} do={async () => { await ask('DELETE', path()); navigate('/webhooks') }}>It is told nothing more.</Confirm></Show>
      </div>
    )}</Show>
  )
}

function Settings(props: { hook: Webhook; path: string; done: () => void }) {
  const [name, setName] = createSignal('')
  const [url, setUrl] = createSignal('')
  const [events, setEvents] = createSignal('')
  const [enabled, setEnabled] = createSignal(true)
  const work = useWork()
  createEffect(() => { setName(props.hook.name); setUrl(props.hook.url); setEvents(props.hook.events.join(' ')); setEnabled(props.hook.enabled) })
  const submit = async (event: SubmitEvent) => {
    event.preventDefault()
    const saved = await work.run(async () => {
      const { tag } = await tagged<Webhook>(props.path)
      await ask('PATCH', props.path, { body: { name: name(), url: url(), events: eventsOf(events()), enabled: enabled() }, headers: { 'If-Match': tag } })
    })
    if (saved) { toast('Saved.'); props.done() }
  }
  return (
    <Panel title="Settings">
      <form class="form" onSubmit={submit}>
        <div class="row"><Text label="Name" required value={name()} on={setName} wrong={work.wrong('name')} /><Text label="Address" type="url" required value={url()} on={setUrl} wrong={work.wrong('url')} /></div>
        <Field label="Told of" hint="Names of events, * for all" wrong={work.wrong('events') ?? work.wrong('events[0]')}>{(attributes) => <textarea {...attributes} rows="2" value={events()} onInput={(event) => setEvents(event.currentTarget.value)} />}</Field>
        <Check label="It is told" value={enabled()} on={setEnabled} />
        <Notice>{work.rest('name', 'url', 'events', 'events[0]')}</Notice>
        <div class="buttons"><Button type="submit" disabled={work.busy()}>Save</Button></div>
      </form>
    </Panel>
  )
}
