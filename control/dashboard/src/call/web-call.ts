// A call of the browser's own by WebRTC: the offer goes by one request, with every candidate, and the answer comes back. One at a time.
import { createStore } from 'solid-js/store'
import { ask, Fault, send } from '../api/client'

export type Way = { connect_with: string } | { call: string; as: 'listen' | 'whisper' | 'join' | 'take_over' }
export type Phase = 'idle' | 'asking' | 'calling' | 'up' | 'over'

const PATH = '/api/v1/web-calls'
const SDP = { 'Content-Type': 'application/sdp' }

const [state, set] = createStore({ phase: 'idle' as Phase, title: '', why: '', call: '', since: 0, muted: false, listens: false, mine: 0, theirs: 0, loss: 0, jitter_ms: 0, rtt_ms: 0, quality: [] as number[] })
export { state as webCall }

type Running = { connection: RTCPeerConnection; microphone?: MediaStream; context: AudioContext; resource?: string; timers: number[]; player?: HTMLAudioElement }
let running: Running | null = null

/** Candidates are gathered for so long before the offer goes, in ms: those that take longer lead nowhere better. */
const GATHERED_MS = 2_000

/** Until the browser knows every address it may be reached at, or knows enough. */
const gathered = (connection: RTCPeerConnection) => new Promise<void>((done) => {
  if (connection.iceGatheringState === 'complete') return done()
  setTimeout(done, GATHERED_MS)
  connection.addEventListener('icegatheringstatechange', () => connection.iceGatheringState === 'complete' && done())
})

/** Begins a call; one that is under way ends first. */
export async function begin(way: Way, title: string) {
  if (running) await end('')
  const listens = 'as' in way && way.as === 'listen'
  set({ phase: 'asking', title, why: '', call: 'call' in way ? way.call : '', since: 0, muted: false, listens, mine: 0, theirs: 0, quality: [] })
  const mine: Running = { connection: new RTCPeerConnection(), context: new AudioContext(), timers: [] }
  running = mine
  try {
    const { ice_servers } = await ask<{ ice_servers: RTCIceServer[] }>('GET', `${PATH}/servers`)
    mine.connection.setConfiguration({ iceServers: ice_servers })
    if (!listens && !navigator.mediaDevices) throw new Fault(0, 'Browsers give the microphone to pages by HTTPS or of this machine alone.')
    if (listens) mine.connection.addTransceiver('audio', { direction: 'recvonly' })
    else {
      mine.microphone = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true } })
      mine.microphone.getTracks().forEach((track) => mine.connection.addTrack(track, mine.microphone!))
      meter(mine, mine.microphone, 'mine')
    }
    mine.connection.addEventListener('track', ({ track }) => play(mine, track))
    mine.connection.addEventListener('connectionstatechange', () => {
      if (running === mine && mine.connection.connectionState === 'failed') void end('The connection was lost.')
    })
    set('phase', 'calling')
    await mine.connection.setLocalDescription(await mine.connection.createOffer())
    await gathered(mine.connection)
    if (running !== mine) return
    const answer = await send('POST', PATH, { query: way, body: mine.connection.localDescription!.sdp, headers: SDP })
    mine.resource = answer.headers.get('Location') ?? ''
    if (running !== mine) return void send('DELETE', mine.resource).catch(() => {})
    await mine.connection.setRemoteDescription({ type: 'answer', sdp: await answer.text() })
    mine.timers.push(window.setInterval(() => void measure(mine), 1_000))
    set({ phase: 'up', since: Date.now() })
  } catch (thrown) {
    if (running !== mine) return
    const refused = thrown instanceof DOMException && thrown.name === 'NotAllowedError'
    await end(refused ? 'The page may not use the microphone: allow it in the browser.' : thrown instanceof DOMException ? thrown.message : Fault.of(thrown).message)
  }
}

/** Ends the call; `why` is shown. */
export async function end(why = state.listens ? 'You listen no more.' : 'You hung up.') {
  const mine = running
  running = null
  if (!mine) return void set('phase', 'idle')
  mine.timers.forEach(clearInterval)
  mine.connection.close()
  void mine.context.close()
  mine.microphone?.getTracks().forEach((track) => track.stop())
  mine.player?.pause()
  set({ phase: why ? 'over' : 'idle', why })
  if (mine.resource) await send('DELETE', mine.resource).catch(() => {})
}

export const dismiss = () => set('phase', 'idle')

export function mute(on: boolean) {
  running?.microphone?.getTracks().forEach((track) => { track.enabled = !on })
  set('muted', on)
}

export const press = (key: string) => running?.connection.getSenders()[0]?.dtmf?.insertDTMF(key, 120)

/** The server tells of a call that a page of ours has begun: which one it is. */
export function started(call: string, from: string, user: string) {
  if (running && !state.call && from === `sip:${user}@web.invalid`) set('call', call)
}

/** The server says that a call of ours is over. */
export function ended(call: string) {
  if (running && state.call === call) void end('The call is over.')
}

addEventListener('pagehide', () => {
  if (running?.resource) void send('DELETE', running.resource).catch(() => {})
})

function play(mine: Running, track: MediaStreamTrack) {
  const stream = new MediaStream([track])
  mine.player = new Audio()
  mine.player.srcObject = stream
  void mine.player.play().catch(() => {})
  meter(mine, stream, 'theirs')
  track.addEventListener('ended', () => running === mine && void end('The call is over.'))
}

/** How loud a stream is, 0 to 100: -60 dB is nothing, -10 dB is all. */
function meter(mine: Running, stream: MediaStream, name: 'mine' | 'theirs') {
  const analyser = mine.context.createAnalyser()
  analyser.fftSize = 512
  mine.context.createMediaStreamSource(stream).connect(analyser)
  const samples = new Float32Array(analyser.fftSize)
  mine.timers.push(window.setInterval(() => {
    analyser.getFloatTimeDomainData(samples)
    const rms = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length)
    set(name, Math.max(0, Math.min(100, (20 * Math.log10(rms + 1e-6) + 60) * 2)))
  }, 60))
}

/** What the connection is like, each second, for a minute. */
async function measure(mine: Running) {
  for (const one of (await mine.connection.getStats()).values()) {
    if (one.type === 'inbound-rtp') {
      const lost = one.packetsLost ?? 0
      set({ loss: (100 * lost) / Math.max(1, lost + (one.packetsReceived ?? 0)), jitter_ms: 1_000 * (one.jitter ?? 0) })
    }
    if (one.type === 'candidate-pair' && one.nominated && one.currentRoundTripTime != null) set('rtt_ms', 1_000 * one.currentRoundTripTime)
  }
  if (running === mine && mine.connection.connectionState === 'disconnected') set('theirs', 0)
  set('quality', (all) => [...all.slice(-59), score(state.rtt_ms, state.jitter_ms, state.loss)])
}

/** A rough opinion score by delay, jitter and loss (ITU-T G.107, simplified; a jitter buffer of twice the jitter is supposed). */
export function score(rtt_ms: number, jitter_ms: number, loss_percent: number): number {
  const delay = rtt_ms / 2 + jitter_ms * 2 + 20
  const r = 93.2 - (0.024 * delay + (delay > 177.3 ? 0.11 * (delay - 177.3) : 0)) - (95 * loss_percent) / (loss_percent + 10)
  if (r <= 0) return 1
  return Math.min(4.5, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)
}
