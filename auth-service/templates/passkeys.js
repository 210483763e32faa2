// Passkeys are the one thing that a page cannot do by itself. A form says what it is for in data attributes; what the authenticator
// answers goes into its fields, and the form is sent as any other.
"use strict";

const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const keys = (list) => (list ? list.split(" ") : []).map((id) => ({ type: "public-key", id: bytes(id) }));

async function create(data) {
  const made = await navigator.credentials.create({
    publicKey: {
      rp: { id: data.rp, name: data.rpName },
      user: { id: new TextEncoder().encode(data.user), name: data.username, displayName: data.displayName },
      challenge: bytes(data.challenge),
      pubKeyCredParams: data.algorithms.split(" ").map((alg) => ({ type: "public-key", alg: Number(alg) })),
      excludeCredentials: keys(data.exclude),
      authenticatorSelection: { residentKey: "required", requireResidentKey: true, userVerification: "required" },
      attestation: "none",
    },
  });
  return {
    client_data: made.response.clientDataJSON,
    authenticator_data: made.response.getAuthenticatorData(),
    public_key: made.response.getPublicKey(),
    algorithm: made.response.getPublicKeyAlgorithm(),
  };
}

async function get(data) {
  const found = await navigator.credentials.get({
    publicKey: {
      rpId: data.rp,
      challenge: bytes(data.challenge),
      allowCredentials: keys(data.allow),
      userVerification: "required",
    },
  });
  return {
    credential: found.rawId,
    client_data: found.response.clientDataJSON,
    authenticator_data: found.response.authenticatorData,
    signature: found.response.signature,
    user_handle: found.response.userHandle,
  };
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  if (!window.PublicKeyCredential) continue;
  form.hidden = false;
  document.querySelectorAll("[data-with-passkeys]").forEach((element) => (element.hidden = false));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const problem = form.querySelector("[role=alert]");
    problem.hidden = true;
    try {
      const answer = await (form.dataset.passkey === "create" ? create(form.dataset) : get(form.dataset));
      for (const [name, value] of Object.entries(answer)) {
        form.elements[name].value = value instanceof ArrayBuffer ? text(value) : (value ?? "");
      }
      form.submit();
    } catch (error) {
      problem.textContent = form.dataset[error.name === "InvalidStateError" ? "known" : "failed"];
      problem.hidden = false;
      form.querySelector("button").focus();
    }
  });
}
