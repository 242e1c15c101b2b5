// Progress that comes by itself, and a button that copies. Everything can be read without this file.
'use strict';

for (const button of document.querySelectorAll('button.copy')) {
  button.hidden = !navigator.clipboard;
  button.addEventListener('click', async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = 'Copied';
  });
}

function showProgress(place, steps) {
  for (const [step, [done, total]] of Object.entries(steps)) {
    let row = [...place.children].find((one) => one.dataset.step === step);
    if (!row) {
      row = document.createElement('div');
      row.dataset.step = step;
      const label = document.createElement('label');
      label.append(step, ' ', document.createElement('progress'), ' ', document.createElement('span'));
      row.append(label);
      place.append(row);
    }
    const bar = row.querySelector('progress');
    bar.max = total;
    bar.value = done;
    row.querySelector('span').textContent = `${done} of ${total}`;
  }
}

async function renewLive() {
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
  for (const place of document.querySelectorAll('[data-live]')) {
    const fresh = page.getElementById(place.id);
    if (fresh) place.replaceChildren(...fresh.childNodes);
  }
}

for (const region of document.querySelectorAll('[data-events]')) {
  const place = region.querySelector('#progress');
  place.replaceChildren();
  const source = new EventSource(region.dataset.events);
  source.addEventListener('message', (event) => {
    const look = JSON.parse(event.data);
    showProgress(place, look.progress);
    document.getElementById('state').textContent = look.state;
    const notes = document.getElementById('notes');
    for (const text of (look.notes || []).slice(notes ? notes.children.length : 0)) {
      const item = document.createElement('li');
      const pre = document.createElement('pre');
      pre.textContent = text;
      item.append(pre);
      notes.append(item);
    }
    if (!look.ended && document.querySelector('[data-live]')) renewLive();
    if (look.ended) {
      source.close();
      location.reload();
    }
  });
}
