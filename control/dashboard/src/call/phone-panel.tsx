// The call of this page's own, over whatever page is shown.
import { A } from '@solidjs/router'
import { createSignal, For, onCleanup, onMount, Show } from 'solid-js'
import { onEvent } from '../live'
import { clock } from '../format'
import { Icon } from '../ui/icon'
import { Button, useNow } from '../ui/parts'
import { who } from '../session'
import { dismiss, end, ended, mute, press, started, webCall } from './web-call'

const SAYS = { idle: '', asking: 'Asking for the microphone…', calling: 'Calling…', up: '', over: '' }

export function Phone() {
  onMount(() => onCleanup(onEvent((event) => {
    if (event.type === 'call.started') started(event.call, String(event.data.from), who()?.user.name ?? '')
    if (event.type === 'call.ended') ended(event.call)
  })))
  const [keys, setKeys] = createSignal(false)
  const now = useNow()
  const isOn = () => webCall.phase !== 'over'
  return (
    <Show when={webCall.phase !== 'idle'}>
      <section class="phone" aria-label="Your call">
        <header>
          <Icon name="phone" /><h2 class="cut">{webCall.title}</h2>
          <Show when={!isOn()}><Button kind="quiet" icon="close" aria-label="Close" onClick={dismiss} /></Show>
        </header>
        <div class="body">
          <p role="status" class="num" data-phase={webCall.phase}>{webCall.phase === 'up' ? <>In the call, {clock(now() - webCall.since)}</> : SAYS[webCall.phase] || webCall.why}</p>
          <Show when={webCall.phase === 'up'}>
            <div>
              <Show when={!webCall.listens}><Meter name="You" value={webCall.muted ? 0 : webCall.mine} look="key-2" /></Show>
              <Meter name="Others" value={webCall.theirs} look="key-4" />
            </div>
            <p class="small muted num">Loss {webCall.loss.toFixed(1)} %, jitter {webCall.jitter_ms.toFixed(0)} ms, round trip {webCall.rtt_ms.toFixed(0)} ms</p>
          </Show>
          <Show when={isOn()}>
            <div class="actions">
              <Button kind="solid-danger" icon="hangup" onClick={() => end()}>Hang up</Button>
              <Show when={!webCall.listens && webCall.phase === 'up'}>
                <Button icon="mic" on={webCall.muted} onClick={() => mute(!webCall.muted)}>Mute</Button>
                <Button on={keys()} onClick={() => setKeys(!keys())}>Keys</Button>
              </Show>
              <Show when={webCall.call}><A class="button quiet" href={`/live/${webCall.call}`}>Show</A></Show>
            </div>
            <Show when={keys() && webCall.phase === 'up'}>
              <div class="keypad" role="group" aria-label="Keypad"><For each={[...'123456789*0#']}>{(key) => <Button onClick={() => press(key)}>{key}</Button>}</For></div>
            </Show>
          </Show>
        </div>
      </section>
    </Show>
  )
}

const Meter = (props: { name: string; value: number; look: string }) => (
  <div class="meter"><span>{props.name}</span><svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect width={props.value} height="8" class={props.look} /></svg></div>
)
