// Recast and Detour behind four C functions, with the settings Habitat uses: the oracle of test_navmesh_recast.py.
#include <DetourCommon.h>
#include <DetourNavMesh.h>
#include <DetourNavMeshBuilder.h>
#include <DetourNavMeshQuery.h>
#include <Recast.h>

#include <cmath>
#include <vector>

static dtNavMesh* mesh = nullptr;
static dtNavMeshQuery* query = nullptr;
static const dtQueryFilter everywhere;
static const float reach[3] = {0.5f, 1.0f, 0.5f};

static dtPolyRef locate(const float* point, float* nearest) {
    dtPolyRef poly = 0;
    query->findNearestPoly(point, reach, &everywhere, &poly, nearest);
    return poly;
}

// Builds the mesh; returns its number of polygons, or a negative number that says which stage failed.
extern "C" int oracle_build(const float* vertices, int n_vertices, const int* triangles, int n_triangles, float cell,
                            float cell_height, float height, float radius, float climb, float slope) {
    rcContext context(false);
    float low[3], high[3];
    int columns, rows;
    rcCalcBounds(vertices, n_vertices, low, high);
    rcCalcGridSize(low, high, cell, &columns, &rows);
    const int tall = (int)std::ceil(height / cell_height), step = (int)std::floor(climb / cell_height);
    const int wide = (int)std::ceil(radius / cell);

    rcHeightfield* solid = rcAllocHeightfield();
    if (!rcCreateHeightfield(&context, *solid, columns, rows, low, high, cell, cell_height)) return -1;
    std::vector<unsigned char> areas(n_triangles, 0);
    rcMarkWalkableTriangles(&context, slope, vertices, n_vertices, triangles, n_triangles, areas.data());
    if (!rcRasterizeTriangles(&context, vertices, n_vertices, triangles, areas.data(), n_triangles, *solid, step)) return -2;
    rcFilterLowHangingWalkableObstacles(&context, step, *solid);
    rcFilterLedgeSpans(&context, tall, step, *solid);
    rcFilterWalkableLowHeightSpans(&context, tall, *solid);

    rcCompactHeightfield* open = rcAllocCompactHeightfield();
    if (!rcBuildCompactHeightfield(&context, tall, step, *solid, *open)) return -3;
    if (!rcErodeWalkableArea(&context, wide, *open)) return -4;
    if (!rcBuildDistanceField(&context, *open) || !rcBuildRegions(&context, *open, 0, 400, 400)) return -5;
    rcContourSet* contours = rcAllocContourSet();
    if (!rcBuildContours(&context, *open, 1.3f, (int)(12 / cell), *contours)) return -6;
    rcPolyMesh* polys = rcAllocPolyMesh();
    if (!rcBuildPolyMesh(&context, *contours, 6, *polys)) return -7;
    rcPolyMeshDetail* detail = rcAllocPolyMeshDetail();
    if (!rcBuildPolyMeshDetail(&context, *polys, *open, 6 * cell, cell_height, *detail)) return -8;
    for (int i = 0; i < polys->npolys; ++i) polys->flags[i] = 1;

    dtNavMeshCreateParams params = {};
    params.verts = polys->verts, params.vertCount = polys->nverts;
    params.polys = polys->polys, params.polyAreas = polys->areas, params.polyFlags = polys->flags;
    params.polyCount = polys->npolys, params.nvp = polys->nvp;
    params.detailMeshes = detail->meshes, params.detailVerts = detail->verts, params.detailVertsCount = detail->nverts;
    params.detailTris = detail->tris, params.detailTriCount = detail->ntris;
    params.walkableHeight = height, params.walkableRadius = radius, params.walkableClimb = climb;
    rcVcopy(params.bmin, polys->bmin), rcVcopy(params.bmax, polys->bmax);
    params.cs = cell, params.ch = cell_height, params.buildBvTree = true;
    unsigned char* data = nullptr;
    int size = 0;
    if (!dtCreateNavMeshData(&params, &data, &size)) return -9;
    dtFreeNavMesh(mesh), dtFreeNavMeshQuery(query);
    mesh = dtAllocNavMesh(), query = dtAllocNavMeshQuery();
    if (dtStatusFailed(mesh->init(data, size, DT_TILE_FREE_DATA)) || dtStatusFailed(query->init(mesh, 2048))) return -10;
    const int count = polys->npolys;
    rcFreePolyMeshDetail(detail), rcFreePolyMesh(polys), rcFreeContourSet(contours);
    rcFreeCompactHeightfield(open), rcFreeHeightField(solid);
    return count;
}

// The horizontal distance from a point to the mesh, -1 if nothing is near.
extern "C" float oracle_distance_to_mesh(const float* point) {
    float nearest[3];
    return locate(point, nearest) ? dtVdist2D(point, nearest) : -1;
}

// The length of the shortest path, -1 if there is none.
extern "C" float oracle_geodesic(const float* start, const float* goal) {
    float from[3], to[3], corners[3 * 256];
    const dtPolyRef first = locate(start, from), last = locate(goal, to);
    dtPolyRef corridor[512];
    int n_polys = 0, n_corners = 0;
    if (!first || !last) return -1;
    query->findPath(first, last, from, to, &everywhere, corridor, &n_polys, 512);
    if (n_polys == 0 || corridor[n_polys - 1] != last) return -1;
    query->findStraightPath(from, to, corridor, n_polys, corners, nullptr, nullptr, &n_corners, 256);
    float length = 0;
    for (int i = 1; i < n_corners; ++i) length += dtVdist(&corners[3 * i - 3], &corners[3 * i]);
    return length;
}

// Where a step that slides ends, written to `reached`; returns whether it could be made.
extern "C" int oracle_try_step(const float* start, const float* end, float* reached) {
    float from[3];
    dtPolyRef visited[64];
    int n_visited = 0;
    const dtPolyRef poly = locate(start, from);
    if (!poly) return 0;
    query->moveAlongSurface(poly, from, end, &everywhere, reached, visited, &n_visited, 64);
    if (n_visited) query->getPolyHeight(visited[n_visited - 1], reached, &reached[1]);
    return n_visited > 0;
}
