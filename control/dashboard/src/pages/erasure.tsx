// Somebody's personal data: given out, and erased.
import { createSignal, For, Show } from 'solid-js'
import { ask, send } from '../api/client'
import { words } from '../format'
import { Button, Confirm, Head, Notice, Panel, Text, useWork } from '../ui/parts'

export default function Erasure() {
  const [number, setNumber] = createSignal('')
  const [asking, setAsking] = createSignal(false)
  const [erased, setErased] = createSignal<Record<string, unknown> | null>(null)
  const work = useWork()
  const take_out = () => work.run(async () => {
    const blob = await (await send('GET', `/api/v1/people/${encodeURIComponent(number())}/data`)).blob()
    const link = document.createElement('a')
    link.href = URL.createObjectURL(blob)
    link.download = 'personal-data.json'
    link.click()
    URL.revokeObjectURL(link.href)
  })
  return (
    <div class="page">
      <Head title="Personal data" sub="What is kept of somebody, by their number or address: records, transcripts, recordings, contacts." />
      <Panel title="Somebody">
        <form class="form" onSubmit={(event) => { event.preventDefault(); setAsking(true) }}>
          <Text label="Number or address" required value={number()} on={setNumber} wrong={work.wrong('number')} />
          <Notice>{work.rest('number')}</Notice>
          <div class="buttons"><Button icon="download" disabled={!number() || work.busy()} onClick={take_out}>Download what is kept</Button><Button kind="danger" icon="erase" type="submit" disabled={!number()}>Erase</Button></div>
        </form>
      </Panel>
      <Show when={erased()}>{(erased) => (
        <Panel title="Erased">
          <dl class="facts"><For each={Object.entries(erased()).filter(([, value]) => typeof value !== 'object')}>{([name, value]) => <><dt>{words(name)}</dt><dd>{String(value)}</dd></>}</For></dl>
        </Panel>
      )}</Show>
      <Show when={asking()}>
        <Confirm title={`Erase ${number()}`} action="Erase for good" close={() => setAsking(false)} do={async () => { setErased(await ask<Record<string, unknown>>('POST', '/api/v1/people/erasure', { body: { number: number() } })); setNumber('') }}>
          <p>Everything that is kept of them is erased. This cannot be taken back.</p>
        </Confirm>
      </Show>
    </div>
  )
}
