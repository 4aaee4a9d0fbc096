// A phone in a browser: registers with the server that the page's address names, by JsSIP over secure WebSocket.
import { UA, WebSocketInterface } from 'jssip'

// `SERVER|USER|PASSWORD[|NUMBER]`: with a number it calls that, and says how loud it hears the other side.
const [server, user, password, number] = decodeURIComponent(location.hash.slice(1)).split('|')
const phone = new UA({
  sockets: [new WebSocketInterface(`wss://${server}`)],
  uri: `sip:${user}@${server.split(':')[0]}`,
  password,
  register_expires: 120,
})
for (const event of ['connected', 'disconnected', 'registered', 'unregistered', 'registrationFailed']) {
  phone.on(event, (told) => console.log(event, told?.cause ?? ''))
}
phone.on('registered', () => number && call())
phone.on('newRTCSession', ({ session, originator }) => {
  session.on('failed', (told) => console.log('failed', told.cause, told.message?.status_code ?? ''))
  session.on('accepted', () => console.log('accepted'))
  session.on('ended', (told) => console.log('ended', told.originator, told.cause))
  if (originator === 'remote') {
    session.on('peerconnection', ({ peerconnection }) => watch(peerconnection))
    session.answer({ mediaConstraints: { audio: true, video: false } })
  }
})
phone.start()

let session
function call() {
  session = phone.call(`sip:${number}@${server.split(':')[0]}`, { mediaConstraints: { audio: true, video: false } })
  watch(session.connection)
}

// What comes from the other side: which pair of addresses it takes, and its loudness four times a second.
function watch(connection) {
  window.connection = connection
  connection.addEventListener('connectionstatechange', () => console.log('connection', connection.connectionState))
  connection.addEventListener('track', ({ track, streams }) => {
    console.log('track', track.kind, streams.length)
    // Chromium gives no sound of a stream to the page before an element plays it.
    const player = new Audio()
    player.srcObject = new MediaStream([track])
    player.muted = true
    player.play()
    const context = new AudioContext()
    const analyser = context.createAnalyser()
    context.createMediaStreamSource(player.srcObject).connect(analyser)
    const samples = new Float32Array(analyser.fftSize)
    setInterval(() => {
      analyser.getFloatTimeDomainData(samples)
      const rms = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length)
      console.log('loudness', rms.toFixed(4))
    }, 250)
  })
}
window.phone = { hold: () => session.hold(), unhold: () => session.unhold(), hangUp: () => session.terminate() }
for (const [at, what] of new URLSearchParams(location.search)) {
  setTimeout(() => window.phone[what](), Number(at))
}
