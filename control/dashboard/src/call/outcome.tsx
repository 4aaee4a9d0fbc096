// What came of a call: who it was, and what was agreed on, where the server keeps that.
import { A } from '@solidjs/router'
import { createResource, createSignal, For, Show } from 'solid-js'
import { all, ask, type Page } from '../api/client'
import { can } from '../session'
import { day } from '../format'
import { Button, Notice, Panel, Select, Text, useWork } from '../ui/parts'

export type Contact = { id: string; name: string; numbers: string[]; email?: string | null; company?: string | null; note?: string | null }
export type Interaction = { id: string; call?: string | null; contact?: string | null; user?: string | null; disposition?: string | null; note?: string | null; at: string; follow_up_at?: string | null }
export type Disposition = { name: string; label: string }

export function Outcome(props: { call: string; number: string }) {
  const [contacts] = createResource(() => can('/contacts') && props.number, (number) => ask<Page<Contact>>('GET', '/api/v1/contacts', { query: { number } }).then((page) => page.items).catch(() => []))
  const [noted, { refetch }] = createResource(() => can('/interactions') && props.call, (call) => all<Interaction>('/api/v1/interactions', { call }).catch(() => []))
  const [dispositions] = createResource(() => can('/dispositions'), () => ask<{ items: Disposition[] }>('GET', '/api/v1/dispositions').then(({ items }) => items).catch(() => []))
  const [disposition, setDisposition] = createSignal('')
  const [note, setNote] = createSignal('')
  const work = useWork()
  const add = (event: SubmitEvent) => {
    event.preventDefault()
    void work.run(async () => {
      await ask('POST', '/api/v1/interactions', { body: { call: props.call, contact: contacts()?.[0]?.id ?? null, disposition: disposition(), note: note() || null } })
      setNote('')
      await refetch()
    })
  }
  const label = (name?: string | null) => dispositions()?.find((one) => one.name === name)?.label ?? name
  return (
    <Show when={can('/interactions')}>
      <Panel title="What came of it">
        <Show when={contacts()?.[0]}>{(contact) => <p>With <A href={`/contacts?q=${encodeURIComponent(contact().name)}`}>{contact().name}</A>{contact().company ? `, ${contact().company}` : ''}</p>}</Show>
        <ul class="form"><For each={noted()}>{(one) => <li><b>{label(one.disposition) ?? 'Note'}</b> <span class="small muted">{day(one.at)}</span><br />{one.note}</li>}</For></ul>
        <form class="form" onSubmit={add}>
          <Select label="Outcome" value={disposition()} on={setDisposition} wrong={work.wrong('disposition')} options={[['', 'Choose'], ...(dispositions() ?? []).map((one) => [one.name, one.label] as const)]} />
          <Text label="Note" value={note()} on={setNote} wrong={work.wrong('note')} />
          <Notice>{work.rest('note', 'disposition')}</Notice>
          <div class="buttons"><Button type="submit" disabled={work.busy() || !disposition()}>Note it</Button></div>
        </form>
      </Panel>
    </Show>
  )
}
