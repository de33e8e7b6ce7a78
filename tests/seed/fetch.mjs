const res = await fetch("https://smtp.atmos.email/v1/send", {
method: "POST",
headers: {
"Content-Type": "application/json",
"X-Atmos-DID": "did:plc:your-did",
"Authorization": "Bearer atmos_your-api-key",
},
body: JSON.stringify({
from: "you@yourdomain.com",
to: "friend@example.com",
subject: "Hello",
text: "Sent via Atmosphere Mail",
}),
});
const data = await res.json();
