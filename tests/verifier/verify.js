// Verifies the DKIM signatures of many messages with mailauth, which shares no code with the relay.
//
// stdin:  {"records": {"name": "TXT value", ...}, "messages": ["base64", ...]}
// stdout: [[{"d", "s", "result", "comment"}, ...], ...]   one list a message, topmost signature first
'use strict';

const { dkimVerify } = require('mailauth/lib/dkim/verify');

function resolverOf(records) {
    return async (name, type) => {
        if (type !== 'TXT' || !(name in records)) {
            const error = new Error(`no ${type} record at ${name}`);
            error.code = 'ENOTFOUND';
            throw error;
        }
        return [[records[name]]];
    };
}

async function main() {
    const chunks = [];
    for await (const chunk of process.stdin) {
        chunks.push(chunk);
    }
    const { records, messages } = JSON.parse(Buffer.concat(chunks));
    const resolver = resolverOf(records);
    const verdicts = [];
    for (const message of messages) {
        const { results } = await dkimVerify(Buffer.from(message, 'base64'), { resolver });
        verdicts.push(
            results.map(({ signingDomain, selector, status }) => ({
                d: signingDomain,
                s: selector,
                result: status.result,
                comment: status.comment || ''
            }))
        );
    }
    process.stdout.write(JSON.stringify(verdicts));
}

main().catch(error => {
    console.error(error);
    process.exitCode = 1;
});
