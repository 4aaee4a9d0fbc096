// What fails on the server while calls go on, said above every page.
import { createSignal, For, onCleanup, onMount, Show } from 'solid-js'
import { api, type Schemas } from './api/client'

/** How often the server is asked, in ms. */
const EVERY = 20_000

export function Faults() {
  const [faults, setFaults] = createSignal<string[]>([])
  const look = async () => {
    // Whether the server answers at all is told elsewhere. All is well or not (503), the answer has the same form.
    const { data, error } = await api.GET('/api/v1/health').catch(() => ({ data: undefined, error: undefined }))
    const health = (data ?? error) as Partial<Schemas['Health']> | undefined
    if (health) setFaults([...(health.waiting_for ?? []), ...(health.faults ?? [])])
  }
  onMount(() => {
    void look()
    const timer = setInterval(look, EVERY)
    onCleanup(() => clearInterval(timer))
  })
  return (
    <div role="status">
      <Show when={faults().length}>
        <div class="notice warn faults">
          <strong>Calls go on, but not all is well</strong>
          <ul><For each={faults()}>{(fault) => <li>{fault}</li>}</For></ul>
        </div>
      </Show>
    </div>
  )
}
