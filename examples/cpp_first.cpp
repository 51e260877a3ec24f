// The library from C++: handles in unique_ptr, errors as exceptions.
//     c++ cpp_first.cpp $(pkg-config --cflags --libs embedd) && ./a.out
#include <embedd.h>

#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

using Engine = std::unique_ptr<emb_engine, decltype(&emb_engine_close)>;
using Model = std::unique_ptr<emb_model, decltype(&emb_model_close)>;

static Engine open_engine()
{
    emb_engine *engine = nullptr;
    emb_error error;
    if (emb_engine_open(nullptr, &engine, &error))
        throw std::runtime_error(error.message);
    return Engine(engine, emb_engine_close);
}

static Model open_model(const Engine &engine, const std::string &name)
{
    emb_model *model = nullptr;
    emb_error error;
    if (emb_model_open(engine.get(), name.c_str(), nullptr, &model, &error))
        throw std::runtime_error(error.message);
    return Model(model, emb_model_close);
}

static std::vector<float> embed(const Model &model, const std::vector<std::string> &strings)
{
    emb_model_info info = EMB_MODEL_INFO_INIT;
    emb_model_get_info(model.get(), &info);
    std::vector<emb_text> texts;
    for (const std::string &s : strings)
        texts.push_back({s.data(), s.size()});
    std::vector<float> vectors(strings.size() * info.dimension);
    emb_error error;
    if (emb_embed(model.get(), texts.data(), texts.size(), nullptr, vectors.data(), vectors.size(), nullptr,
                  &error))
        throw std::runtime_error(error.message);
    return vectors;
}

int main(int argc, char **argv)
try {
    Engine engine = open_engine();
    Model model = open_model(engine, argc > 1 ? argv[1] : "all-MiniLM-L6-v2");
    std::vector<float> v = embed(model, {"a cat sits on the mat", "a kitten rests on the rug"});
    std::printf("cosine %.3f\n", emb_cosine(v.data(), v.data() + v.size() / 2, v.size() / 2));
} catch (const std::exception &problem) {
    std::fprintf(stderr, "%s\n", problem.what());
    return 1;
}
