// Webhooks: programs elsewhere that are told of what happens.
import { A, useNavigate } from '@solidjs/router'
import { createSignal, For, Show } from 'solid-js'
import { ask, type Page } from '../api/client'
import { words } from '../format'
import { Button, Empty, Field, Head, Modal, Notice, Secret, Tag, Text, useWork } from '../ui/parts'
import { List, usePages } from '../ui/pages'

export type Webhook = { id: string; name: string; url: string; events: string[]; enabled: boolean; state: 'healthy' | 'failing' | 'disabled'; disabled_why?: string | null; failing_since?: string | null; secrets?: { hint: string; until?: string | null }[] }

export const WebhookState = (props: { state: Webhook['state'] }) => <Tag tone={{ healthy: 'good', failing: 'bad', disabled: '' }[props.state]}>{words(props.state)}</Tag>
export const eventsOf = (text: string) => text.split(/[\s,;]+/).filter(Boolean)

export default function Webhooks() {
  const navigate = useNavigate()
  const [adding, setAdding] = createSignal(false)
  const pages = usePages<Webhook>((after) => ask<Page<Webhook>>('GET', '/api/v1/webhooks', { query: { after } }))
  return (
    <div class="page">
      <Head title="Webhooks" sub="Signed requests to programs of yours, kept and tried again until they arrive."><Button kind="primary" icon="plus" onClick={() => setAdding(true)}>Add a webhook</Button></Head>
      <List label="Webhooks" pages={pages} open={(hook) => navigate(`/webhooks/${hook.id}`)} empty={<Empty title="No webhook yet.">Add one to be told when calls begin and end.</Empty>} columns={[
        { title: 'Name', cell: (hook) => <A href={`/webhooks/${hook.id}`}><b>{hook.name}</b></A> },
        { title: 'Address', phone: false, cell: (hook) => <code>{hook.url}</code> },
        { title: 'Told of', wide: true, cell: (hook) => <For each={hook.events}>{(event) => <><Tag>{event === '*' ? 'everything' : event}</Tag> </>}</For> },
        { title: 'State', kind: 'fit', cell: (hook) => <WebhookState state={hook.state} /> },
      ]} />
      <Show when={adding()}><Add close={() => { setAdding(false); void pages.again() }} /></Show>
    </div>
  )
}

function Add(props: { close: () => void }) {
  const [name, setName] = createSignal('')
  const [url, setUrl] = createSignal('https://')
  const [events, setEvents] = createSignal('call.started call.ended')
  const [secret, setSecret] = createSignal('')
  const work = useWork()
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    void work.run(async () => setSecret((await ask<{ secret: string }>('POST', '/api/v1/webhooks', { body: { name: name(), url: url(), events: eventsOf(events()) } })).secret))
  }
  return (
    <Modal title="Add a webhook" close={props.close}>
      <Show when={!secret()} fallback={
        <div class="form"><Notice tone="info">Copy the secret now: it is not shown again. Requests are signed by it.</Notice><Secret value={secret()} label="The secret" /><div class="buttons"><Button kind="primary" onClick={props.close}>Done</Button></div></div>
      }>
        <form class="form" onSubmit={submit}>
          <Text label="Name" required value={name()} on={setName} wrong={work.wrong('name')} />
          <Text label="Address" type="url" required value={url()} on={setUrl} wrong={work.wrong('url')} />
          <Field label="Told of" hint="Names of events, * for all" wrong={work.wrong('events') ?? work.wrong('events[0]')}>{(attributes) => <textarea {...attributes} rows="2" required value={events()} onInput={(event) => setEvents(event.currentTarget.value)} />}</Field>
          <Notice>{work.rest('name', 'url', 'events', 'events[0]')}</Notice>
          <div class="buttons"><Button onClick={props.close}>Cancel</Button><Button kind="primary" type="submit" disabled={work.busy()}>Add</Button></div>
        </form>
      </Show>
    </Modal>
  )
}
