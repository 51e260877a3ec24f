// OpenAI's Node client against embedd at argv[2]; prints one JSON object that test_node.py checks.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: process.argv[3] || "none", maxRetries: 2 });
const texts = ["first text", "second text", "first text"];
const out = {};
out.plain = await client.embeddings.create({ model: "all-MiniLM-L6-v2", input: "hello world" });
out.float = await client.embeddings.create({ model: "all-MiniLM-L6-v2", input: "hello world", encoding_format: "float" });
out.base64 = await client.embeddings.create({ model: "all-MiniLM-L6-v2", input: texts, encoding_format: "base64" });
out.many = await client.embeddings.create({ model: "all-MiniLM-L6-v2", input: texts });
out.dimensions = await client.embeddings.create({ model: "all-MiniLM-L6-v2", input: "hello world", dimensions: 64 });
out.tokens = await client.embeddings.create({ model: "all-MiniLM-L6-v2", input: [[101, 7592, 2088, 102]] });
out.models = [];
for await (const model of await client.models.list()) out.models.push(model);
out.model = await client.models.retrieve("all-MiniLM-L6-v2");
out.parallel = (await Promise.all(Array.from({ length: 20 }, (_, i) =>
    client.embeddings.create({ model: "all-MiniLM-L6-v2", input: "text " + i })))).map((r) => r.data[0].embedding.length);
async function failure(call) {
    try {
        await call();
        return null;
    } catch (e) {
        return { name: e.constructor.name, status: e.status, message: e.message, code: e.code, param: e.param, type: e.type };
    }
}
out.unknown = await failure(() => client.embeddings.create({ model: "no-such-model", input: "a" }));
out.empty = await failure(() => client.embeddings.create({ model: "all-MiniLM-L6-v2", input: [] }));
out.large = await failure(() => client.embeddings.create({ model: "all-MiniLM-L6-v2", input: "a", dimensions: 4096 }));
console.log(JSON.stringify(out));
