// Contacts: who calls, by their numbers.
import { useNavigate, useSearchParams } from '@solidjs/router'
import { createSignal, For, Show } from 'solid-js'
import { ask, tagged, type Page } from '../api/client'
import { Button, Confirm, Empty, Field, Head, Modal, Notice, Text, toast, useWork } from '../ui/parts'
import { List, usePages } from '../ui/pages'
import { NewCall } from '../call/new-call'
import type { Contact } from '../call/outcome'

export default function Contacts() {
  const [search, setSearch] = useSearchParams()
  const [wanted, setWanted] = createSignal(String(search.q ?? ''))
  const [calling, setCalling] = createSignal('')
  const navigate = useNavigate()
  const [editing, setEditing] = createSignal<Contact | 'new' | null>(null)
  const pages = usePages<Contact>((after) => ask<Page<Contact>>('GET', '/api/v1/contacts', { query: { after, q: search.q } }), () => search.q)
  const done = () => { setEditing(null); void pages.again() }
  return (
    <div class="page">
      <Head title="Contacts"><Button kind="primary" icon="plus" onClick={() => setEditing('new')}>Add a contact</Button></Head>
      <form class="filters" role="search" onSubmit={(event) => { event.preventDefault(); setSearch({ q: wanted() }) }}>
        <Text class="wide" label="Name" type="search" value={wanted()} on={setWanted} /><Button type="submit">Search</Button>
      </form>
      <List label="Contacts" pages={pages} open={setEditing} empty={<Empty title={search.q ? 'No contact fits.' : 'No contact yet.'} />} columns={[
        { title: 'Name', cell: (contact) => <><b>{contact.name}</b><Show when={contact.company}> <span class="muted small">{contact.company}</span></Show></> },
        { title: 'Numbers', cell: (contact) => <For each={contact.numbers}>{(number) => <span class="num">{number} <Button tiny kind="quiet" icon="phone" aria-label={`Call ${number}`} title={`Call ${number}`} onClick={() => setCalling(number)} /> </span>}</For> },
        { title: 'E-mail', wide: true, cell: (contact) => contact.email ?? '' },
        { title: '', kind: 'fit', cell: (contact) => <Button tiny aria-label={`Change ${contact.name}`} onClick={() => setEditing(contact)}>Change</Button> },
      ]} />
      <Show when={calling()}>{(to) => <NewCall to={to()} close={() => setCalling('')} begun={(call) => navigate(`/live/${call}`)} />}</Show>
      <Show when={editing()} keyed>{(contact) => <Edit contact={contact === 'new' ? null : contact} close={() => setEditing(null)} done={done} />}</Show>
    </div>
  )
}

function Edit(props: { contact: Contact | null; close: () => void; done: () => void }) {
  const { contact } = props
  const [name, setName] = createSignal(contact?.name ?? '')
  const [numbers, setNumbers] = createSignal(contact?.numbers.join(', ') ?? '')
  const [email, setEmail] = createSignal(contact?.email ?? '')
  const [company, setCompany] = createSignal(contact?.company ?? '')
  const [note, setNote] = createSignal(contact?.note ?? '')
  const [removing, setRemoving] = createSignal(false)
  const work = useWork()
  const path = `/api/v1/contacts/${contact?.id}`
  const submit = async (event: SubmitEvent) => {
    event.preventDefault()
    const body = { name: name(), numbers: numbers().split(/[,;\n]/).map((one) => one.trim()).filter(Boolean), email: email() || null, company: company() || null, note: note() || null }
    const saved = await work.run(async () => {
      if (!contact) return ask('POST', '/api/v1/contacts', { body })
      const { tag } = await tagged<Contact>(path)
      await ask('PATCH', path, { body, headers: { 'If-Match': tag } })
    })
    if (saved) { toast('Saved.'); props.done() }
  }
  const numbersWrong = () => work.wrong('numbers') ?? Object.entries(work.fault()?.fields ?? {}).find(([field]) => field.startsWith('numbers['))?.[1]
  return (
    <Show when={!removing()} fallback={<Confirm title={`Remove ${contact?.name}`} action="Remove" close={() => setRemoving(false)} do={async () => { await ask('DELETE', path); props.done() }}>Their calls' records stay.</Confirm>}>
      <Modal title={contact ? 'Change a contact' : 'Add a contact'} close={props.close}>
        <form class="form" onSubmit={submit}>
          <Text label="Name" required value={name()} on={setName} wrong={work.wrong('name')} />
          <Text label="Numbers" required value={numbers()} on={setNumbers} wrong={numbersWrong()} hint="With country code, several with commas" />
          <div class="row"><Text label="E-mail" type="email" value={email()} on={setEmail} wrong={work.wrong('email')} /><Text label="Company" value={company()} on={setCompany} wrong={work.wrong('company')} /></div>
          <Field label="Note" wrong={work.wrong('note')}>{(attributes) => <textarea {...attributes} rows="3" value={note()} onInput={(event) => setNote(event.currentTarget.value)} />}</Field>
          <Notice>{numbersWrong() ? undefined : work.rest('name', 'email', 'company', 'note')}</Notice>
          <div class="buttons"><Show when={contact}><Button kind="danger" onClick={() => setRemoving(true)}>Remove</Button></Show><Button kind="primary" type="submit" disabled={work.busy()}>Save</Button></div>
        </form>
      </Modal>
    </Show>
  )
}
