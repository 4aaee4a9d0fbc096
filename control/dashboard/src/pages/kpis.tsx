export default function Page() { return <p class="empty">Not here yet.</p> }
