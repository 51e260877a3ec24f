// OpenAI's Node client against a gateway at argv[2], with the hosted model argv[3]; prints one JSON object that
// test_gateway.py checks.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "none", maxRetries: 2 });
const model = process.argv[3];
const texts = ["first text", "second text", "first text"];
const out = {};
async function vectors(input, more) {
    return (await client.embeddings.create({ model, input, ...more })).data.map((d) => Array.from(d.embedding));
}
async function failure(call) {
    try {
        await call();
        return null;
    } catch (e) {
        return { name: e.constructor.name, status: e.status, code: e.code };
    }
}
out.plain = await vectors(texts);
out.float = await vectors(texts, { encoding_format: "float" });
out.tokens = await vectors([[15339, 1917]]);
out.dimensions = await vectors(texts, { dimensions: 256 });
out.parallel = (await Promise.all(Array.from({ length: 20 }, (_, i) => vectors("text " + i)))).map((v) => v[0]);
out.unknown = await failure(() => client.embeddings.create({ model: "no-such-model", input: "a" }));
out.private = await failure(() => vectors("write to jane.doe@example.com"));
console.log(JSON.stringify(out));
