curl -X POST https://smtp.atmos.email/v1/send \
-H "Content-Type: application/json" \
-H "X-Atmos-DID: did:plc:your-did" \
-H "Authorization: Bearer atmos_your-api-key" \
-d '{
"from": "you@yourdomain.com",
"to": "friend@example.com",
"subject": "Hello",
"text": "Sent via Atmosphere Mail"
}'
