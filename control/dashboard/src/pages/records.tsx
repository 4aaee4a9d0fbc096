// Ended calls: found by what they were and by what was said in them.
import { A, useNavigate, useSearchParams } from '@solidjs/router'
import { createSignal, Show } from 'solid-js'
import { api, take, type CallRecord } from '../api/client'
import { can, is } from '../session'
import { clock, day, fixed, mosTone, ms, tone, words } from '../format'
import { Button, Empty, Head, Select, Tag, Text } from '../ui/parts'
import { List, usePages } from '../ui/pages'
import { isCallable, NewCall } from '../call/new-call'
import { RecordTabs } from './refused'

const CLASSES = [['', 'Any'], ['ok', 'Ok'], ['caller_fault', "Caller's doing"], ['upstream_fault', "Others' fault"], ['our_fault', 'Our fault'], ['unknown', 'Unknown']] as const
type Filters = Partial<Record<'words' | 'caller' | 'callee' | 'target' | 'class' | 'direction' | 'from' | 'until', string>>

const moment = (day?: string, after = 0) => {
  if (!day) return undefined
  const at = new Date(`${day}T00:00:00`)
  at.setDate(at.getDate() + after)
  return at.toISOString()
}

export default function Records() {
  const navigate = useNavigate()
  const [search, setSearch] = useSearchParams()
  const filters = () => ({ ...search }) as Filters
  const [calling, setCalling] = createSignal('')
  const [form, setForm] = createSignal<Filters>(filters())
  const change = (name: keyof Filters) => (value: string) => setForm((form) => ({ ...form, [name]: value }))
  const query = () => {
    const { from, until, ...rest } = filters()
    const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value?.trim()))
    return { ...given, from: moment(from), until: moment(until, 1) }
  }
  const pages = usePages<CallRecord>((after) => take(api.GET('/api/v1/call-records', { params: { query: { ...query(), after } } })), () => JSON.stringify(query()))
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    setSearch({ words: '', caller: '', callee: '', target: '', class: '', direction: '', from: '', until: '', ...form() })
  }
  const reset = () => { setForm({}); setSearch({ words: '', caller: '', callee: '', target: '', class: '', direction: '', from: '', until: '' }) }
  const isFiltered = () => Object.values(query()).some(Boolean)
  const report = () => `/api/v1/reports/calls?${new URLSearchParams({ format: 'csv', ...Object.fromEntries(Object.entries(query()).filter(([, value]) => value)) as Record<string, string> })}`
  return (
    <div class="page">
      <Head title="Records"><Show when={can('/reports/calls')}><a class="button" href={report()} download="calls.csv">Download CSV</a></Show></Head>
      <Show when={can('/refused-calls') && is('administrator')}><RecordTabs /></Show>
      <form class="filters" role="search" onSubmit={submit}>
        <Text class="wide" label="Said" type="search" placeholder="Words, all in one turn" value={form().words ?? ''} on={change('words')} />
        <Text label="From number" value={form().caller ?? ''} on={change('caller')} />
        <Text label="To number" value={form().callee ?? ''} on={change('callee')} />
        <Text label="With" placeholder="Agent" value={form().target ?? ''} on={change('target')} />
        <Select label="Ended" value={form().class ?? ''} on={change('class')} options={CLASSES} />
        <Select label="Direction" value={form().direction ?? ''} on={change('direction')} options={[['', 'Any'], ['inbound', 'Inbound'], ['outbound', 'Outbound']]} />
        <Text label="Since" type="date" value={form().from ?? ''} on={change('from')} />
        <Text label="Until" type="date" value={form().until ?? ''} on={change('until')} />
        <Button kind="primary" type="submit">Search</Button>
        <Show when={isFiltered()}><Button kind="quiet" onClick={reset}>Clear</Button></Show>
      </form>
      <List label="Ended calls" pages={pages} open={(record) => navigate(`/records/${record.call}`)}
        empty={<Empty title={isFiltered() ? 'No call fits.' : 'No call has ended yet.'}>{isFiltered() ? 'All that is filled in has to fit. Said finds whole words that fell in one turn; From and To want the whole number or name as records show it, With an agent by name. Leave something out, or choose a longer time.' : 'Each call leaves its record here: what was said, how it sounded, how it ended.'}</Empty>}
        columns={[
          { title: 'Began', kind: 'fit', cell: (record) => <span class="num">{day(record.started_at)}</span> },
          { title: 'From', cell: (record) => <A href={`/records/${record.call}`}>{record.caller || 'unknown'}</A> },
          { title: 'To', cell: (record) => record.callee },
          { title: 'With', cell: (record) => record.target, wide: true },
          { title: 'Length', kind: 'right', cell: (record) => clock(record.duration_ms) },
          { title: 'Gap', kind: 'right', wide: true, cell: (record) => ms(record.gap_ms) },
          { title: 'MOS', kind: 'right', phone: false, cell: (record) => record.mos_in == null ? '–' : <Tag tone={mosTone(record.mos_in)}>{fixed(record.mos_in, 1)}</Tag> },
          { title: 'End', kind: 'fit', phone: false, cell: (record) => <Tag tone={tone(record.class)}>{words(record.reason)}</Tag> },
          { title: '', kind: 'fit', phone: false, cell: (record) => <Show when={isCallable(other(record))}><Button tiny kind="quiet" icon="phone" aria-label={`Call ${other(record)}`} title={`Call ${other(record)}`} onClick={() => setCalling(other(record))} /></Show> },
          { title: '', kind: 'fit', wide: true, cell: (record) => record.recorded ? <span class="small muted">Recorded</span> : '' },
        ]} />
      <Show when={calling()}>{(to) => <NewCall to={to()} close={() => setCalling('')} begun={(call) => navigate(`/live/${call}`)} />}</Show>
    </div>
  )
}

/** The other side of a call. */
const other = (record: CallRecord) => (record.direction === 'outbound' ? record.callee : record.caller)
