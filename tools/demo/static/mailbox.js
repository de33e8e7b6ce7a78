// Says that mail has come. Without it the page is whole, and as old as its last loading.
const status = document.getElementById("new");

setInterval(async () => {
  const answer = await fetch("/last").catch(() => null); // the demo has ended
  if (!answer || !answer.ok) return;
  const count = (await answer.json()).last - Number(status.dataset.last);
  if (count > 0 && status.dataset.count !== String(count)) {
    status.dataset.count = String(count);
    const link = document.createElement("a");
    link.href = "/";
    link.textContent = count === 1 ? "1 new mail: show it" : `${count} new mails: show them`;
    status.replaceChildren(link);
  }
}, 2000);
