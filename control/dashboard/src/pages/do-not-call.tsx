// Who is not to be called.
import { createSignal, Show } from 'solid-js'
import { ask, type Page } from '../api/client'
import { is } from '../session'
import { day } from '../format'
import { Button, Confirm, Empty, Field, Head, Modal, Notice, Text, toast, useWork } from '../ui/parts'
import { List, usePages } from '../ui/pages'

type Entry = { number: string; reason?: string | null; source: string; added_by: string; added_at: string; expires_at?: string | null }

export default function DoNotCall() {
  const [wanted, setWanted] = createSignal('')
  const [asked, setAsked] = createSignal('')
  const [adding, setAdding] = createSignal(false)
  const [removing, setRemoving] = createSignal<Entry | null>(null)
  const pages = usePages<Entry>((after) => ask<Page<Entry>>('GET', '/api/v1/do-not-call', { query: { after, number: asked() } }), asked)
  return (
    <div class="page">
      <Head title="Do not call" sub="Numbers that no call is made to."><Button kind="primary" icon="plus" onClick={() => setAdding(true)}>Add numbers</Button></Head>
      <form class="filters" role="search" onSubmit={(event) => { event.preventDefault(); setAsked(wanted()) }}>
        <Text class="wide" label="Number" type="search" value={wanted()} on={setWanted} /><Button type="submit">Search</Button>
      </form>
      <List label="Numbers not to be called" pages={pages} empty={<Empty title={asked() ? 'It is not on the list.' : 'Nobody is on the list.'} />} columns={[
        { title: 'Number', cell: (entry) => <b class="num">{entry.number}</b> },
        { title: 'Why', cell: (entry) => entry.reason ?? '' },
        { title: 'By', phone: false, cell: (entry) => entry.added_by },
        { title: 'Since', kind: 'fit', phone: false, cell: (entry) => day(entry.added_at) },
        { title: 'Until', kind: 'fit', wide: true, cell: (entry) => (entry.expires_at ? day(entry.expires_at) : 'Always') },
        { title: '', kind: 'fit', cell: (entry) => <Show when={is('supervisor')}><Button tiny kind="danger" aria-label={`Take off ${entry.number}`} onClick={() => setRemoving(entry)}>Take off</Button></Show> },
      ]} />
      <Show when={adding()}><Add close={() => setAdding(false)} done={() => { setAdding(false); void pages.again() }} /></Show>
      <Show when={removing()} keyed>{(entry) => (
        <Confirm title={`Take ${entry.number} off the list`} action="Take off" close={() => setRemoving(null)} do={async () => { await ask('DELETE', `/api/v1/do-not-call/${encodeURIComponent(entry.number)}`); void pages.again() }}>It may be called again.</Confirm>
      )}</Show>
    </div>
  )
}

function Add(props: { close: () => void; done: () => void }) {
  const [numbers, setNumbers] = createSignal('')
  const [reason, setReason] = createSignal('')
  const work = useWork()
  const submit = async (event: SubmitEvent) => {
    event.preventDefault()
    const entries = numbers().split(/[\s,;]+/).filter(Boolean).map((number) => ({ number, reason: reason() || null }))
    if (await work.run(() => ask('POST', '/api/v1/do-not-call', { body: { entries } }))) { toast('Added.'); props.done() }
  }
  return (
    <Modal title="Add numbers" close={props.close}>
      <form class="form" onSubmit={submit}>
        <Field label="Numbers" hint="One a line, with country code, up to 1,000">{(attributes) => <textarea {...attributes} required rows="5" value={numbers()} onInput={(event) => setNumbers(event.currentTarget.value)} />}</Field>
        <Text label="Why" value={reason()} on={setReason} />
        <Notice>{work.fault()?.message}</Notice>
        <div class="buttons"><Button onClick={props.close}>Cancel</Button><Button kind="primary" type="submit" disabled={work.busy()}>Add</Button></div>
      </form>
    </Modal>
  )
}
