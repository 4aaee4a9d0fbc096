import { render } from 'solid-js/web'
import './style.css'
import './theme'
import { App } from './app'

render(() => <App />, document.getElementById('app')!)
