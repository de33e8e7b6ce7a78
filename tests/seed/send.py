import requests
resp = requests.post(
"https://smtp.atmos.email/v1/send",
headers={
"X-Atmos-DID": "did:plc:your-did",
"Authorization": "Bearer atmos_your-api-key",
},
json={
"from": "you@yourdomain.com",
"to": "friend@example.com",
"subject": "Hello",
"text": "Sent via Atmosphere Mail",
},
)
print(resp.json())
