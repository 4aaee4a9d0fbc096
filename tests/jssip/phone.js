// A phone in a browser: registers with the server that the page's address names, by JsSIP over secure WebSocket.
import { UA, WebSocketInterface } from 'jssip'

const [server, user, password] = decodeURIComponent(location.hash.slice(1)).split('|')
const phone = new UA({
  sockets: [new WebSocketInterface(`wss://${server}`)],
  uri: `sip:${user}@${server.split(':')[0]}`,
  password,
  register_expires: 120,
})
for (const event of ['connected', 'disconnected', 'registered', 'unregistered', 'registrationFailed']) {
  phone.on(event, (told) => console.log(event, told?.cause ?? ''))
}
phone.start()
