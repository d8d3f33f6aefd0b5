// A conversation with the language model of this server, streamed token by token.
const byId = (id) => document.getElementById(id);
let messages = [];
let speaks = true; // false: the model only continues texts
let running = null;

function say(text, bad = false) {
  byId("verdict").textContent = text;
  byId("verdict").className = bad ? "bad" : "";
}

function show(role, content) {
  const bubble = document.createElement("p");
  bubble.className = role;
  bubble.textContent = content;
  byId("talk").append(bubble);
  bubble.scrollIntoView({ block: "nearest" });
  return bubble;
}

function headers() {
  const key = byId("key").value;
  return { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
}

function question(text) {
  const common = { stream: true, temperature: Number(byId("temperature").value), top_k: 50 };
  if (!speaks) return ["v1/completions", { ...common, prompt: text, max_tokens: 2 ** 20 }];
  const system = byId("system").value.trim();
  const first = system ? [{ role: "system", content: system }] : [];
  return ["v1/chat/completions", { ...common, messages: [...first, ...messages] }];
}

// The data of server-sent events, one after the other
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.replace(/^data: /, "");
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

async function answer(text) {
  const conversation = messages; // "New conversation" begins another
  messages.push({ role: "user", content: text });
  show("user", text);
  const bubble = show("assistant", speaks ? "" : text);
  const [path, body] = question(text);
  running = new AbortController();
  let written = "", tokens = 0;
  const start = performance.now();
  try {
    const init = { method: "POST", headers: headers(), body: JSON.stringify(body), signal: running.signal };
    const response = await fetch(path, init);
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const { choices: [choice] } of events(response)) {
      const piece = choice.delta ? choice.delta.content || "" : choice.text;
      written += piece;
      bubble.textContent += piece;
      tokens += 1;
      bubble.scrollIntoView({ block: "nearest" });
      if (choice.finish_reason === "length") say("The model's context is full: begin a new conversation.");
    }
    const seconds = (performance.now() - start) / 1000;
    if (!byId("verdict").textContent) say(`${(tokens / seconds).toFixed(0)} tokens per second`);
  } catch (error) {
    if (conversation !== messages) return true;
    if (error.name !== "AbortError" || !written) {
      say(error.name === "AbortError" ? "Stopped." : error.message, error.name !== "AbortError");
      messages.pop();
      byId("talk").lastChild.previousSibling.remove();
      bubble.remove();
      return false;
    }
    say("Stopped.");
  } finally {
    running = null;
  }
  conversation.push({ role: "assistant", content: written });
  return true;
}

function reset() {
  running?.abort();
  messages = [];
  byId("talk").replaceChildren();
  say("");
  byId("text").focus();
}

byId("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = byId("text").value.trim();
  if (!text || running) return;
  say("");
  byId("text").value = "";
  byId("send").disabled = true;
  byId("stop").disabled = false;
  if (!(await answer(text))) byId("text").value = text;
  byId("send").disabled = false;
  byId("stop").disabled = true;
  byId("text").focus();
});
byId("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("ask").requestSubmit();
});
byId("stop").addEventListener("click", () => running?.abort());
byId("reset").addEventListener("click", reset);

const about = await (await fetch("chat.json")).json();
speaks = about.speaks;
byId("about").textContent = speaks
  ? `${about.name} answers. Enter sends, Shift and Enter begin a new line.`
  : `${about.name} has not learnt to answer: it continues your text.`;
if (!speaks) {
  byId("prompt").textContent = "The text to continue";
  byId("system").parentElement.hidden = true;
}
