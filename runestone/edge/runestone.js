/**
 * Runestone for browsers: chat as JSON, as a stream that survives a lost connection, or over one WebSocket with rooms.
 *
 *     import { Client } from "https://gateway.example/runestone.js";
 *     for await (const text of new Client().stream({ model, messages })) show(text);
 *
 * Rule: what a caller reads is exact (each piece once, in order) or ends in an error. Every wait has a deadline, every
 * queue a limit, no error holds the key. Times are milliseconds.
 * Deliberately absent: dependencies, a build step, and asking again for an answer that may have been paid for.
 */

const BACKOFF = { base: 200, most: 5_000 }; // before attempt n: anything up to base * 2 ** n, at most `most`
const LONGEST_EVENT = 32_000_000; // characters
const MOST_UNTAKEN = 32; // streams of a room
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/; // what a sub-protocol may be
const HEAR = Symbol("hear"); // what a session tells its streams and rooms
const END = Symbol("end");

/** Any failure. `code` is the gateway's own, or stands beside the class below. */
export class RunestoneError extends Error {
  /** @param {string} code @param {string} message @param {object} [more] further fields */
  constructor(code, message, more = {}) {
    super(message);
    Object.assign(this, { name: new.target.name, code }, more);
  }
}
/** The gateway said no: `status` (HTTP), `closeCode` (WebSocket), `type`, `param`, `retryAfter` (s) where known. */
export class Refused extends RunestoneError {}
/** A stream ended before its end; what came before has been told. */
export class StreamFailed extends RunestoneError {}
/** `overrun`: somebody else's stream was not read, and only they can pause it. */
export class Overrun extends StreamFailed {}
/** `connection_lost`, or `closed` by this side: there is no connection, and none is sought any more. */
export class ConnectionLost extends RunestoneError {}
/** `session_lost`: the gateway knows the session no more. Another goes on in its place. */
export class SessionLost extends RunestoneError {}
/** `queue_full`: nothing was sent. */
export class QueueFull extends RunestoneError {}
/** `timeout`. What was asked for may have happened all the same. */
export class TimedOut extends RunestoneError {}

/**
 * @typedef {object} Options
 * @property {number} [timeout] longest wait for an answer, or the next piece of a stream; 600,000
 * @property {number} [giveUpAfter] how long a lost connection is sought; 60,000
 * @property {number} [silence] after which a stream over HTTP is asked for on another connection; 45,000
 * @property {number} [attempt] longest time a WebSocket may take to connect and resume; 10,000
 * @property {number} [pingEvery] a gateway that says nothing from one ping to the next is taken for dead; 15,000
 * @property {number} [maxQueued] messages that wait to be sent, or for the gateway to say it has them; 64
 * @property {number} [maxBuffered] characters that wait for the reader of a stream, which is paused then; 1,000,000
 * @property {Record<string, string>} [headers] for calls over HTTP
 *
 * @typedef {{model: string, messages: object[], room?: string} & Record<string, unknown>} ChatRequest
 * @typedef {{chunk: string, index: number, delta?: object, choice?: number, logprobs?: object}} Chunk
 */

/** @type {Required<Options>} */
const DEFAULTS = {
  ...{ timeout: 600_000, giveUpAfter: 60_000, silence: 45_000, attempt: 10_000, pingEvery: 15_000 },
  ...{ maxQueued: 64, maxBuffered: 1_000_000, headers: {} },
};

/** One gateway: the one this module came from, if there is no `url`. */
export class Client {
  #key; #options;

  /** @param {{url?: string, key?: string} & Options} [options] */
  constructor({ url = new URL(import.meta.url).origin, key, ...options } = {}) {
    this.url = url.replace(/\/+$/, "");
    this.#key = key;
    this.#options = { ...DEFAULTS, ...options };
  }

  /** A whole answer. @param {ChatRequest} request @returns {Promise<any>} the completion */
  async chat(request) {
    const { timeout } = this.#options;
    const body = { ...request, stream: false };
    return this.#fetch("POST", "/v1/chat/completions", { body, timeout, read: (response) => response.json() });
  }

  /** A streamed answer; asked for when it is read. @param {ChatRequest} request @returns {EventStream} */
  stream(request) {
    return new EventStream((...call) => this.#fetch(...call), request, this.#options);
  }

  /** A WebSocket session: connects now, and whenever it must. @param {Options} [options] @returns {Session} */
  session(options = {}) {
    if (this.#key !== undefined && !TOKEN.test(this.#key)) {
      throw new Refused("invalid_api_key", "the key has characters that a browser's WebSocket cannot carry");
    }
    const protocols = this.#key === undefined ? ["runestone"] : ["runestone", `runestone.key.${this.#key}`];
    return new Session(`${this.url.replace(/^http/, "ws")}/ws`, protocols, { ...this.#options, ...options });
  }

  async #fetch(method, path, { body, headers = {}, timeout, read = (response) => response, stop, ...more }) {
    const controller = stop ?? new AbortController();
    const sent = { ...this.#options.headers, ...headers, "content-type": "application/json" };
    if (this.#key !== undefined) sent.authorization = `Bearer ${this.#key}`;
    const init = { method, headers: sent, body: JSON.stringify(body), signal: controller.signal, cache: "no-store" };
    const asking = async () => {
      const response = await fetch(this.url + path, { ...init, ...more });
      return response.ok ? read(response) : Promise.reject(refusal(response, await response.text()));
    };
    try {
      return await within(timeout, asking(), `${method} ${path}`);
    } catch (error) {
      controller.abort();
      if (error instanceof RunestoneError) throw error;
      throw new ConnectionLost("connection_lost", `${method} ${path}: no answer, or not all of it`);
    }
  }
}

/**
 * An answer as events: `for await` gives the text of the first choice, `chunks()` OpenAI's chunks. To be read once;
 * leaving the loop ends the provider's call. When the connection is lost it goes on with the next event on another one.
 */
export class EventStream {
  /** @type {string | null} */ id = null;
  /** @type {string | null} */ finishReason = null;
  /** @type {object | null} if `stream_options` asked for it */ usage = null;
  #fetch; #request; #options;
  #stop = new AbortController();
  #isOver = false; #isCancelled = false;
  #last = null; #heard = 0; #attempts = 0; // the last event's id, when it came, how often its follower was sought

  constructor(fetch, request, options) {
    [this.#fetch, this.#request, this.#options] = [fetch, { ...request, stream: true }, options];
  }

  async *[Symbol.asyncIterator]() {
    for await (const chunk of this.chunks()) {
      const text = first(chunk)?.delta?.content;
      if (text) yield /** @type {string} */ (text);
    }
  }

  /** @returns {AsyncGenerator<any>} */
  async *chunks() {
    if (this.#isOver) return;
    const { timeout, silence } = this.#options;
    const asked = { body: this.#request, headers: { "x-runestone-resumable": "true" }, timeout, stop: this.#stop };
    try {
      let response = await this.#fetch("POST", "/v1/chat/completions", asked);
      this.id = response.headers.get("x-runestone-stream-id");
      for (this.#heard = performance.now(); ; response = await this.#goOn()) {
        for await (const { id, data } of events(response, silence)) {
          [this.#heard, this.#attempts] = [performance.now(), 0];
          if (id !== null && this.#last !== null && Number(id) <= Number(this.#last)) continue;
          this.#last = id ?? this.#last;
          if ((this.#isOver = data === "[DONE]")) return;
          yield this.#read(data);
        }
      }
    } catch (error) {
      if (!this.#isCancelled) throw error;
    } finally {
      if (!this.#isOver) this.cancel().catch(() => {}); // at the latest the gateway notices that nobody reads
    }
  }

  /** Ends the reading and the provider's call. */
  async cancel() {
    if (this.#isOver) return;
    this.#isOver = this.#isCancelled = true;
    this.#stop.abort();
    const soon = { timeout: this.#options.silence, keepalive: true };
    if (this.id !== null) await this.#fetch("DELETE", `/v1/streams/${this.id}`, soon);
  }

  #read(data) {
    const chunk = parse(data);
    if (chunk.error) {
      this.#isOver = true;
      throw refused(chunk.error, {}, StreamFailed);
    }
    this.usage = chunk.usage ?? this.usage;
    this.finishReason = first(chunk)?.finish_reason ?? this.finishReason;
    return chunk;
  }

  /** What comes after the last event, on a new connection. */
  async #goOn() {
    if (this.id === null) throw new ConnectionLost("connection_lost", "the stream was cut, and cannot be resumed");
    const { timeout, silence, giveUpAfter } = this.#options;
    const headers = this.#last === null ? {} : { "last-event-id": this.#last };
    for (const lost = performance.now(); performance.now() - lost < giveUpAfter; ) {
      await pause(this.#isCancelled ? 0 : backoff(this.#attempts++));
      if (this.#isCancelled) throw new ConnectionLost("closed", "the stream was cancelled");
      if (performance.now() - this.#heard > timeout) throw new TimedOut("timeout", `no event for ${timeout} ms`);
      this.#stop = new AbortController();
      try {
        const asked = { headers, timeout: silence, stop: this.#stop };
        const response = await this.#fetch("GET", `/v1/streams/${this.id}`, asked);
        if (response.status !== 204) return response;
        this.#isOver = true;
        throw new StreamFailed("provider_error", "the stream is over, and its end was not told");
      } catch (error) {
        if (this.#isOver || (error instanceof Refused && error.status < 500 && error.status !== 429)) throw error;
      }
    }
    throw new ConnectionLost("connection_lost", `no connection for ${giveUpAfter} ms`);
  }
}

/**
 * A conversation that outlives its connections. `state`, and a "state" event with `detail: {state, reason}`:
 * "connecting" (again after each loss), "connected", "resumed" (nothing was missed), "lost" (nothing is left of the
 * session: what it had ended in SessionLost, a new one goes on), "closed" (for good).
 */
export class Session extends EventTarget {
  state = "connecting";
  /** @type {string | null} */ id = null;
  #url; #protocols; #options;
  #socket = null; #connections = 0; #attempts = 0; #lostAt = null;
  #timer = 0; #beat = 0; #isSilent = false;
  #connected = deferred();
  #isReady = false; // connected, and resumed if that was to be
  #fresh = null; // the id of the session that goes on if ours is lost
  #last = 0; // seq of the last message
  #queue = []; // what the gateway is not known to have: {ref, text, isSent, isBound}; to be sent, or sent again
  #received = 0; // how many messages before those it has had
  #waiting = new Map(); // ref to {answer, message}
  #refs = 0;
  #streams = new Map(); #rooms = new Map();

  constructor(url, protocols, options) {
    super();
    [this.#url, this.#protocols, this.#options] = [url, protocols, options];
    this.#connect();
  }

  /** Resolves when the session has begun; rejects with Refused, or ConnectionLost when it was given up. */
  get connected() {
    return this.#connected.promise;
  }

  /** A streamed answer, as soon as it can be controlled. @param {ChatRequest} request @returns {Promise<Stream>} */
  async stream(request) {
    return this.#ask("chat:stream", request);
  }

  /** A whole answer. @param {ChatRequest} request @returns {Promise<any>} the completion */
  async chat(request) {
    return this.#ask("chat:message", request, this.#options.timeout);
  }

  /** Enters a room, once: then it is the same object. @param {string} name @returns {Promise<Room>} */
  async join(name) {
    const known = this.#rooms.get(name);
    const room = known ?? new Room(name, () => this.#leave(name));
    this.#rooms.set(name, room); // before the answer, which the streams that run there follow
    try {
      room.members = (await this.#ask("room:join", { room: name })).members;
      return room;
    } catch (error) {
      if (known === undefined) this.#rooms.delete(name);
      throw error;
    }
  }

  /** Ends the session, what runs for it, and its part in rooms. */
  close() {
    if (this.state === "closed") return;
    const goodbye = (event, payload) => this.#isReady && this.#write({ text: JSON.stringify({ event, payload }) });
    for (const { id, isMine, room } of this.#streams.values()) {
      if (isMine && room === null) goodbye("stream:control", { action: "cancel", stream_id: id });
    }
    for (const room of this.#rooms.keys()) goodbye("room:leave", { room }); // which ends what nobody hears any more
    this.#finish(new ConnectionLost("closed", "the session was closed"));
  }

  #connect() {
    const socket = (this.#socket = new WebSocket(this.#url, this.#protocols));
    const payload = { session_id: this.id, last_seq: this.#last };
    const resume = { event: "session:resume", ref: `resume ${(this.#connections += 1)}`, payload };
    socket.onopen = () => this.id !== null && socket.send(JSON.stringify(resume));
    socket.onmessage = ({ data }) => this.#hear(data);
    socket.onclose = ({ code, reason }) => this.#lose(reason || `the connection was closed (${code})`, code);
    this.#timer = setTimeout(() => this.#lose("no session in time"), this.#options.attempt);
  }

  #open(state, reason = "") {
    clearTimeout(this.#timer);
    this.#isReady = true;
    const beat = () => (this.#isSilent ? this.#lose("the gateway is silent") : this.#ping());
    this.#beat = setInterval(beat, this.#options.pingEvery);
    for (const message of this.#queue) this.#write(message);
    this.#connected.resolve();
    this.#tell(state, reason);
  }

  #lose(reason, code = 1006) {
    this.#release();
    const { giveUpAfter } = this.#options;
    this.#lostAt ??= performance.now();
    const left = this.#lostAt + giveUpAfter - performance.now();
    if (code === 1008) this.#finish(new Refused("connection_refused", reason, { closeCode: code }));
    else if (code === 1009) this.#finish(new Refused("request_too_large", reason, { closeCode: code }));
    else if (left <= 0) this.#finish(new ConnectionLost("connection_lost", `sought for ${giveUpAfter} ms: ${reason}`));
    else {
      this.#timer = setTimeout(() => this.#connect(), Math.min(backoff(this.#attempts++), left));
      this.#tell("connecting", reason);
    }
  }

  #release() {
    clearTimeout(this.#timer);
    clearInterval(this.#beat);
    this.#isReady = this.#isSilent = false;
    if (this.#socket === null) return;
    Object.assign(this.#socket, { onopen: null, onmessage: null, onclose: null });
    this.#socket.close(1000);
    this.#socket = null;
  }

  #finish(error) {
    this.#release();
    this.#connected.reject(error);
    for (const { answer } of this.#waiting.values()) answer.reject(error);
    this.#queue = [];
    this.#end(error);
    this.#tell("closed", error.message);
  }

  #end(error) {
    for (const one of [...this.#streams.values(), ...this.#rooms.values()]) one[HEAR]("over", error);
    this.#streams.clear();
    this.#rooms.clear();
  }

  #tell(state, reason) {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, reason } }));
  }

  /** Sends a message, now or when that is possible, and waits for what the gateway says to it. */
  #ask(event, payload, timeout = this.#options.giveUpAfter + 2 * this.#options.pingEvery) {
    const { maxQueued } = this.#options;
    if (this.state === "closed") throw new ConnectionLost("closed", "the session is closed");
    if (this.#queue.length >= maxQueued) throw new QueueFull("queue_full", `${maxQueued} messages wait already`);
    const ref = (this.#refs += 1);
    const isBound = !event.startsWith("chat:") || payload.room !== undefined; // means nothing in another session
    const message = { ref, text: JSON.stringify({ event, ref, payload }), isSent: false, isBound };
    const answer = deferred();
    this.#waiting.set(ref, { answer, message });
    this.#queue.push(message);
    if (this.#isReady) this.#write(message);
    if (this.#isReady && this.#queue.length === maxQueued >> 1) this.#ping(); // the pong says that all this arrived
    return within(timeout, answer.promise, event).finally(() => {
      this.#waiting.delete(ref);
      if (!message.isSent) this.#queue = this.#queue.filter((one) => one !== message); // nobody waits for it any more
    });
  }

  #write(message) {
    message.isSent = true;
    this.#socket.send(message.text);
  }

  #ping() {
    this.#isSilent = true;
    const sent = this.#received + this.#queue.length; // with a connection that is ready, all of the queue is sent
    this.#socket.send(JSON.stringify({ event: "ping", ref: -sent, payload: {} })); // no message has such a ref
  }

  /** The gateway has had `count` of our messages. */
  #arrived(count) {
    this.#queue.splice(0, Math.max(0, count - this.#received));
    this.#received = Math.max(count, this.#received);
  }

  #hear(text) {
    this.#isSilent = false;
    const { event, seq, payload, ref } = JSON.parse(text);
    if (event === "connected" && this.id !== null) return void (this.#fresh = payload.session_id);
    if (event === "connected") [this.id, this.#last] = [payload.session_id, seq - 1];
    if (event === "session:lost") return this.#startAnew(seq, payload.reason); // numbered in the new session
    if (seq <= this.#last) return undefined;
    if (seq !== this.#last + 1) return this.#lose(`message ${this.#last + 1} did not come`);
    this.#last = seq;
    if (event === "connected") return this.#open("connected");
    if (event === "session:resumed") return this.#goOn(payload.received, ref);
    [this.#attempts, this.#lostAt] = [0, null]; // only now: a connection that brings nothing is no success
    if (event === "pong") return this.#arrived(-ref);
    this.#arrived(this.#received + this.#queue.findIndex((one) => one.ref === ref) + 1); // it came in order
    const answer = this.#waiting.get(ref)?.answer;
    if (event === "error") return answer?.reject(refused(payload));
    if (event === "stream:started") return this.#begin(payload, ref, answer);
    this.#streams.get(payload.stream_id)?.[HEAR](event, payload, text.length);
    return answer?.resolve(payload);
  }

  #goOn(received, ref) {
    if (ref !== `resume ${this.#connections}`) return; // an earlier connection was to hear this, and did not
    this.#arrived(received);
    this.#open("resumed");
  }

  #startAnew(seq, reason) {
    const error = new SessionLost("session_lost", `the session was lost: ${reason}`);
    const isLost = (message) => message.isSent || message.isBound; // others go on in the new session
    for (const { answer, message } of this.#waiting.values()) if (isLost(message)) answer.reject(error);
    this.#queue = this.#queue.filter((message) => !isLost(message));
    [this.id, this.#last, this.#received] = [this.#fresh, seq, 0];
    this.#end(error);
    this.#open("lost", reason);
  }

  #begin({ stream_id: id, model, room = null }, ref, answer) {
    if (this.#streams.has(id)) return;
    const control = (action) => this.#ask("stream:control", { action, stream_id: id });
    const way = { ...this.#options, control, forget: () => this.#streams.delete(id) };
    const stream = new Stream({ id, model, room, isMine: ref !== undefined }, way);
    this.#streams.set(id, stream);
    if (answer !== undefined) answer.resolve(stream);
    else if (stream.isMine) stream.cancel().catch(() => {}); // nobody waits for it any more
    else this.#rooms.get(room)?.[HEAR]("stream", stream);
  }

  async #leave(name) {
    this.#rooms.get(name)?.[HEAR]("over");
    this.#rooms.delete(name);
    for (const stream of this.#streams.values()) if (stream.room === name) stream[HEAR]("over");
    await this.#ask("room:leave", { room: name });
  }
}

/**
 * A stream of a session: `for await` gives the text of the first choice, `chunks()` all there is. To be read once;
 * leaving the loop cancels it. One of ours that is not read is paused until it has been; one of somebody else's in a
 * room (`isMine` false) fails then.
 */
export class Stream {
  isOver = false;
  cancelled = false;
  /** @type {object | null} what `stream:complete` said */ response = null;
  /** @type {string | null} */ finishReason = null;
  /** @type {object | null} */ usage = null;
  #way; #buffer = new Buffer(); #over = deferred();
  #isPaused = false; #isHeld = false; // by hand; because of the buffer

  constructor(start, way) {
    /** @type {string} */ this.id = start.id;
    /** @type {string} */ this.model = start.model;
    /** @type {string | null} its name */ this.room = start.room;
    /** @type {boolean} */ this.isMine = start.isMine;
    this.#way = way;
  }

  async *[Symbol.asyncIterator]() {
    for await (const { chunk, choice = 0 } of this.chunks()) if (chunk && choice === 0) yield chunk;
  }

  /** @returns {AsyncGenerator<Chunk>} */
  async *chunks() {
    try {
      for (let chunk; (chunk = await this.#buffer.take(this.#way.timeout, `stream ${this.id}`)) !== END; ) {
        if (this.#isHeld && this.#buffer.size <= this.#way.maxBuffered / 4) this.#hold(false);
        yield chunk;
      }
    } finally {
      this.cancel().catch(() => {});
    }
  }

  /** The gateway stops reading the provider; what has come already is still read. */
  async pause() {
    this.#isPaused = true;
    await this.#steer("pause");
  }

  /** The opposite. */
  async resume() {
    this.#isPaused = this.#isHeld = false;
    await this.#steer("resume");
  }

  /** Ends it and the provider's call. Somebody else's is only heard no more. */
  async cancel() {
    if (this.isMine) await this.#steer("cancel");
    else this[HEAR]("stream:cancelled");
  }

  async #steer(action) {
    if (!this.isOver) await Promise.race([this.#over.promise, this.#way.control(action)]);
  }

  #hold(isHeld) {
    this.#isHeld = isHeld;
    const again = () => !this.isOver && this.#isHeld === isHeld && this.#hold(isHeld);
    if (!this.#isPaused) this.#steer(isHeld ? "pause" : "resume").catch(() => setTimeout(again, 1_000));
  }

  #end(error) {
    if (this.isOver) return;
    this.isOver = true;
    this.#buffer.end(error);
    this.#over.resolve();
    this.#way.forget();
  }

  [HEAR](event, payload, size) {
    if (event === "stream:chunk") this.#put(payload, size);
    if (event === "stream:error") this.#end(refused(payload.error, {}, StreamFailed));
    if (event === "over") this.#end(payload);
    if (event === "stream:cancelled") {
      this.cancelled = !this.isOver;
      this.#end();
    }
    if (event === "stream:complete") {
      const { finish_reason: finishReason, usage } = payload.response;
      Object.assign(this, { response: payload.response, finishReason, usage });
      this.#end();
    }
  }

  #put(chunk, size) {
    this.#buffer.put(chunk, size);
    const { maxBuffered } = this.#way;
    if (this.#buffer.size <= maxBuffered || this.#isHeld) return;
    if (this.isMine) this.#hold(true);
    else this.#end(new Overrun("overrun", `more than ${maxBuffered} characters of the stream were not read`));
  }
}

/** A room: `for await` gives the streams that others begin there, or have begun, as long as one is in it. */
export class Room {
  /** How many there were when it was joined. */ members = 0;
  #leave; #streams = new Buffer();

  constructor(name, leave) {
    /** @type {string} */ this.name = name;
    this.#leave = leave;
  }

  async *[Symbol.asyncIterator]() {
    for (let stream; (stream = await this.#streams.take()) !== END; ) yield /** @type {Stream} */ (stream);
  }

  /** What is heard of it ends here; one's own streams go on for those who stay. */
  async leave() {
    await this.#leave();
  }

  [HEAR](event, what) {
    if (event === "over") this.#streams.end(what);
    else if (this.#streams.size < MOST_UNTAKEN) this.#streams.put(what, 1);
    else what.cancel(); // too many that nobody took: unheard
  }
}

/** What waits for its one reader. */
class Buffer {
  size = 0;
  #items = []; #news = deferred(); #end = null;

  put(item, size) {
    this.#items.push({ item, size });
    this.size += size;
    this.#news.resolve();
  }

  end(error) {
    this.#end ??= { error };
    this.#news.resolve();
  }

  /** The next, or END when there is none any more; rejects with the error it ended with. */
  async take(timeout = Infinity, what = "") {
    while (this.#items.length === 0) {
      if (this.#end?.error) throw this.#end.error;
      if (this.#end) return END;
      this.#news = deferred();
      await within(timeout, this.#news.promise, what);
    }
    const { item, size } = this.#items.shift();
    this.size -= size;
    return item;
  }
}

/** The whole events of a response, until it ends or is cut. */
async function* events(response, silence) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let [rest, id, data] = ["", null, []];
  try {
    for (;;) {
      const { done, value } = await within(silence, reader.read(), "an event").catch(() => ({ done: true }));
      if (done) return;
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      if (rest.length > LONGEST_EVENT) throw new StreamFailed("provider_error", "an event without end");
      for (const line of lines) {
        const [, field, text] = /^([^:]*):? ?(.*)$/s.exec(line);
        if (field === "data") data.push(text);
        if (field === "id") id = text;
        if (line === "" && data.length > 0) yield { id, data: data.join("\n") };
        if (line === "") [id, data] = [null, []];
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function first(chunk) {
  return chunk.choices?.find((choice) => (choice.index ?? 0) === 0);
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new StreamFailed("provider_error", "an event that is not JSON");
  }
}

function refused({ code, type, message, param }, more = {}, Kind = Refused) {
  return new Kind(code ?? type ?? "error", String(message), { type, param, ...more });
}

function refusal(response, text) {
  const after = response.headers.get("retry-after");
  const more = { status: response.status, retryAfter: after === null ? undefined : Number(after) };
  try {
    return refused(JSON.parse(text).error, more);
  } catch {
    return refused({ code: "bad_answer", message: `the gateway answered ${response.status}` }, more);
  }
}

function deferred() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  made.promise.catch(() => {}); // who waits hears of it; nobody must
  return made;
}

async function within(timeout, promise, what) {
  if (timeout === Infinity) return promise;
  let timer = 0;
  const late = new Promise((_, reject) => {
    const fail = () => reject(new TimedOut("timeout", `${what}: nothing for ${timeout} ms`));
    timer = setTimeout(fail, Math.min(timeout, 2 ** 31 - 1)); // longer ones would fire at once
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function backoff(attempt) {
  return Math.random() * Math.min(BACKOFF.most, BACKOFF.base * 2 ** attempt);
}

function pause(time) {
  return new Promise((resolve) => setTimeout(resolve, time));
}
