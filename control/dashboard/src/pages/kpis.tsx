// Figures over time: how many called, how they fared, how it sounded.
import { useSearchParams } from '@solidjs/router'
import { createResource, For, Show } from 'solid-js'
import { ask, Fault } from '../api/client'
import { can } from '../session'
import { clock, fixed, ms, percent, money } from '../format'
import { Button, Empty, Head, Notice, Panel, Select, Text } from '../ui/parts'
import { Bars, LineChart } from '../ui/chart'

type Spread = { mean?: number | null; p50?: number | null; p95?: number | null }
type Figures = {
  calls: number; answered: number; abandoned: number; transfers: number; talk_ms: number
  failed: Record<'caller_fault' | 'upstream_fault' | 'our_fault' | 'unknown', number>
  duration_ms: Spread; answer_ms: Spread; gap_ms: Spread; mos?: number | null; mos_below_3_6?: number | null
}
type Cost = { calls: number; partial: number; currency?: string | null; total_micros?: number | null; per_call_micros?: number | null; per_minute_micros?: number | null; per_answer_micros?: number | null }
type Step = Figures & { from: string; figures?: Figures; cost?: Cost | null }
type Kpis = { total: Figures; cost?: Cost | null; series: Step[]; targets?: { name: string; figures?: Figures; calls?: number; cost?: Cost | null }[] }

const SPANS = [['1', 'Last 24 hours'], ['7', 'Last 7 days'], ['30', 'Last 30 days'], ['90', 'Last 90 days'], ['365', 'Last year']] as const
const DAY_MS = 86_400_000

export default function KpisPage() {
  const [search, setSearch] = useSearchParams()
  const days = () => Number(search.days ?? 7)
  const span = () => {
    const to = new Date(Math.ceil(Date.now() / 3_600_000) * 3_600_000)
    return { from: new Date(to.getTime() - days() * DAY_MS).toISOString(), to: to.toISOString() }
  }
  const query = () => ({
    ...span(), by: days() <= 2 ? 'hour' : days() > 120 ? 'week' : 'day', zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
    direction: search.direction as string | undefined, target: search.target as string | undefined,
  })
  const [found] = createResource(query, (query) => ask<Kpis>('GET', '/api/v1/kpis', { query }).catch((thrown) => Fault.of(thrown)))
  const label = (at: string) => new Date(at).toLocaleString(undefined, days() <= 2 ? { hour: '2-digit', minute: '2-digit' } : { day: 'numeric', month: 'short' })
  return (
    <div class="page">
      <Head title="Figures" sub="Of ended calls that you may see.">
        <Show when={can('/reports/agents')}><a class="button" download="agents.csv" href={`/api/v1/reports/agents?${new URLSearchParams({ ...span(), format: 'csv' })}`}>By agent, CSV</a></Show>
        <Show when={can('/reports/users')}><a class="button" download="users.csv" href={`/api/v1/reports/users?${new URLSearchParams({ ...span(), format: 'csv' })}`}>By user, CSV</a></Show>
      </Head>
      <form class="filters" onSubmit={(event) => event.preventDefault()}>
        <Select label="Time" value={String(days())} on={(days) => setSearch({ days })} options={SPANS} />
        <Select label="Direction" value={String(search.direction ?? '')} on={(direction) => setSearch({ direction })} options={[['', 'Any'], ['inbound', 'Inbound'], ['outbound', 'Outbound']]} />
        <Text label="Answered by" placeholder="Any" value={String(search.target ?? '')} on={(target) => setSearch({ target })} />
        <Show when={search.direction || search.target}><Button kind="quiet" onClick={() => setSearch({ direction: '', target: '' })}>Clear</Button></Show>
      </form>
      <Show when={found.latest ?? found()} fallback={<p class="empty">Loading…</p>}>{(found) => {
        const kpis = () => found() as Kpis | Fault
        return (
          <Show when={!(kpis() instanceof Fault)} fallback={<Notice>{(kpis() as Fault).message}</Notice>}>
            <Shown kpis={kpis() as Kpis} label={label} />
          </Show>
        )
      }}</Show>
    </div>
  )
}

function Shown(props: { kpis: Kpis; label: (at: string) => string }) {
  const total = () => props.kpis.total
  const steps = () => props.kpis.series.map((step) => ({ at: step.from, of: step.figures ?? step }))
  const points = (value: (of: Figures) => number | null | undefined) => steps().map(({ of }, x) => ({ x, y: value(of) ?? null }))
  const at = (x: number) => props.label(steps()[x]?.at ?? '')
  const failed = (of: Figures) => Object.values(of.failed).reduce((a, b) => a + b, 0)
  return (
    <Show when={total().calls} fallback={<div class="panel"><Empty title="No call in this time.">Choose a longer one.</Empty></div>}>
      <dl class="figures many">
        <div><dt>Calls</dt><dd>{total().calls.toLocaleString()}</dd></div>
        <div><dt>Answered</dt><dd>{percent(total().answered, total().calls)}</dd></div>
        <div><dt>Abandoned</dt><dd>{total().abandoned.toLocaleString()}</dd></div>
        <div><dt>Talk time</dt><dd>{clock(total().talk_ms)}</dd></div>
        <div><dt>Length, mean</dt><dd>{total().duration_ms.mean == null ? '–' : clock(total().duration_ms.mean!)}</dd></div>
        <div><dt>Answer gap, median</dt><dd>{ms(total().gap_ms.p50)} <small class="nowrap">95 %: {ms(total().gap_ms.p95)}</small></dd></div>
        <div><dt>MOS, mean</dt><dd>{fixed(total().mos, 2)}</dd></div>
        <div><dt>Transfers</dt><dd>{total().transfers.toLocaleString()}</dd></div>
        <Show when={props.kpis.cost}>{(cost) => <>
          <div><dt>Cost</dt><dd>{money(cost().total_micros, cost().currency)} <small class="nowrap">{cost().currency ? (cost().partial ? `${cost().partial.toLocaleString()} calls in part` : `of ${cost().calls.toLocaleString()} calls`) : 'in several currencies'}</small></dd></div>
          <div><dt>Cost of a call, mean</dt><dd>{money(cost().per_call_micros, cost().currency)}</dd></div>
          <div><dt>Cost of a minute</dt><dd>{money(cost().per_minute_micros, cost().currency)}</dd></div>
          <div><dt>Cost of an answer</dt><dd>{money(cost().per_answer_micros, cost().currency)}</dd></div>
        </>}</Show>
      </dl>
      <div class="charts">
        <Panel title="Calls">
          <Bars title="Calls" names={['Answered', 'Abandoned', 'Failed otherwise']} looks={['key-accent', 'key-3', 'key-bad']}
            items={steps().map((step) => ({ label: props.label(step.at), parts: [step.of.answered, step.of.abandoned, Math.max(0, Math.min(failed(step.of), step.of.calls - step.of.answered - step.of.abandoned))] }))} />
        </Panel>
        <Panel title="Answer gap of agents, ms"><LineChart title="Answer gap" unit="ms" names={['Half below', '95 % below']} points={points((of) => of.gap_ms.p50)} second={points((of) => of.gap_ms.p95)} label={at} /></Panel>
        <Panel title="Length of calls, s"><LineChart title="Length of calls" unit="s" names={['Half below', '95 % below']} points={points((of) => of.duration_ms.p50 == null ? null : of.duration_ms.p50 / 1_000)} second={points((of) => of.duration_ms.p95 == null ? null : of.duration_ms.p95 / 1_000)} label={at} /></Panel>
        <Panel title="Quality, MOS"><LineChart title="Mean opinion score" from={1} to={5} digits={2} points={points((of) => of.mos)} label={at} /></Panel>
        <Panel title="Time to answer, s"><LineChart title="Time to answer" unit="s" names={['Half below', '95 % below']} digits={2} points={points((of) => of.answer_ms.p50 == null ? null : of.answer_ms.p50 / 1_000)} second={points((of) => of.answer_ms.p95 == null ? null : of.answer_ms.p95 / 1_000)} label={at} /></Panel>
        <Panel title="Whose doing failures were">
          <Bars title="Failures" names={['Caller', 'Others', 'Ours', 'Unknown']} looks={['key-accent', 'key-3', 'key-bad', 'key-5']}
            items={steps().map((step) => ({ label: props.label(step.at), parts: [step.of.failed.caller_fault, step.of.failed.upstream_fault, step.of.failed.our_fault, step.of.failed.unknown] }))} />
        </Panel>
      </div>
      <Show when={props.kpis.targets?.length}>
        <Panel title="By who answered" flush>
          <table class="table" aria-label="By who answered">
            <thead><tr><th scope="col">Who</th><th scope="col" class="right">Calls</th><Show when={props.kpis.cost}><th scope="col" class="right">Cost</th></Show></tr></thead>
            <tbody><For each={props.kpis.targets}>{(group) => <tr><td>{group.name || 'Nobody'}</td><td class="right">{(group.figures?.calls ?? group.calls ?? 0).toLocaleString()}</td><Show when={props.kpis.cost}><td class="right">{money(group.cost?.total_micros, group.cost?.currency)}</td></Show></tr>}</For></tbody>
          </table>
        </Panel>
      </Show>
    </Show>
  )
}
