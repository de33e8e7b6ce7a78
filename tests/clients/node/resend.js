// Calls methods of Resend's SDK, as an application does. Where the API is, the environment says (RESEND_BASE_URL).
//
// argv:   the API key
// stdin:  {"calls": [["emails.send", ...arguments], ...]}; {"$bytes": "base64"} in an argument is a Buffer
// stdout: [{"data"} or {"error"}, ...], one a call
'use strict';

const { Resend } = require('resend');

function revived(key, value) {
    return value && value.$bytes !== undefined ? Buffer.from(value.$bytes, 'base64') : value;
}

async function main() {
    const chunks = [];
    for await (const chunk of process.stdin) {
        chunks.push(chunk);
    }
    const { calls } = JSON.parse(Buffer.concat(chunks), revived);
    const resend = new Resend(process.argv[2]);
    const outcomes = [];
    for (const [name, ...given] of calls) {
        const [group, method] = name.split('.');
        const { data, error } = await resend[group][method](...given);
        outcomes.push(error ? { error } : { data });
    }
    process.stdout.write(JSON.stringify(outcomes));
}

main().catch(error => {
    console.error(error);
    process.exitCode = 1;
});
