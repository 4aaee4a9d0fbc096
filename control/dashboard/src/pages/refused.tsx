// Calls that ended and are not in the database, as it refused their records: which, why, and where they are still.
import { A } from '@solidjs/router'
import { api, take, type Schemas } from '../api/client'
import { when } from '../format'
import { Empty, Head } from '../ui/parts'
import { List, usePages } from '../ui/pages'

/** The two lists of calls that ended. */
export const RecordTabs = () => (
  <nav class="tabs" aria-label="Records">
    <A href="/records" end activeClass="active">Ended calls</A>
    <A href="/records/refused" activeClass="active">Refused</A>
  </nav>
)

export default function Refused() {
  const pages = usePages<Schemas['RefusedCall']>((after) => take(api.GET('/api/v1/refused-calls', { params: { query: { after } } })))
  return (
    <div class="page">
      <Head title="Records" sub="Calls whose records the database did not take. They are in no list and no figure; each stays in its server's journal." />
      <RecordTabs />
      <List label="Refused calls" pages={pages} empty={<Empty title="None was refused.">Every call that ended is among the records.</Empty>} columns={[
        { title: 'Began', kind: 'fit', cell: (one) => <span class="num">{when(one.started_at)}</span> },
        { title: 'Call', kind: 'fit', cell: (one) => one.call ? <code>{one.call}</code> : <span class="muted">no record of a call</span> },
        { title: 'Why', cell: (one) => one.why },
        { title: 'Server', kind: 'fit', phone: false, cell: (one) => one.server },
        { title: 'In its calls.jsonl', kind: 'right', wide: true, cell: (one) => <span class="num" title={`tail -c +${one.position + 1} calls.jsonl | head -n 1`}>byte {one.position}</span> },
        { title: '', kind: 'fit', wide: true, cell: (one) => one.recorded ? <span class="small muted">Recorded</span> : '' },
      ]} />
    </div>
  )
}
