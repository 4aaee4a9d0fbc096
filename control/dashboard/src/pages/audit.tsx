// The audit log: who changed what, and whether what stands there is what was written.
import { createSignal, Show } from 'solid-js'
import { api, take, type Schemas } from '../api/client'
import { when, words } from '../format'
import { Button, Empty, Head, Notice, useWork } from '../ui/parts'
import { List, usePages } from '../ui/pages'

export default function Audit() {
  const pages = usePages<Schemas['AuditEntry']>((after) => take(api.GET('/api/v1/audit', { params: { query: { after } } })))
  const [found, setFound] = createSignal<Schemas['Verification'] | null>(null)
  const work = useWork()
  const verify = () => work.run(async () => setFound(await take(api.GET('/api/v1/audit/verification'))))
  const detail = (entry: Schemas['AuditEntry']) => {
    const pairs = Object.entries((entry.detail ?? {}) as Record<string, unknown>).filter(([, value]) => value !== null)
    return pairs.map(([name, value]) => `${name}: ${typeof value === 'object' ? JSON.stringify(value) : value}`).join(', ')
  }
  return (
    <div class="page">
      <Head title="Audit log" sub="Each entry is chained to the one before by its hash."><Button icon="audit" disabled={work.busy()} onClick={verify}>{work.busy() ? 'Verifying…' : 'Verify'}</Button></Head>
      <Notice>{work.fault()?.message}</Notice>
      <Show when={found()} keyed>{(found) => found.holds
        ? <Notice tone="good">It holds: every entry{found.anchor ? ` up to number ${found.anchor!.seq}` : ''} is what was written.</Notice>
        : <Notice>It does not hold{found.broken ? `: entry ${found.broken!.seq}, ${found.broken!.why}` : ''}.</Notice>}</Show>
      <List label="Audit log" pages={pages} empty={<Empty title="Nothing was changed yet." />} columns={[
        { title: 'No.', kind: 'right', phone: false, cell: (entry) => entry.seq },
        { title: 'When', cell: (entry) => <span class="num">{when(entry.at)}</span> },
        { title: 'Who', cell: (entry) => entry.actor },
        { title: 'What', cell: (entry) => words(entry.action) },
        { title: 'To', cell: (entry) => entry.subject },
        { title: 'Detail', wide: true, cell: (entry) => <span class="small muted">{detail(entry)}</span> },
      ]} />
    </div>
  )
}
